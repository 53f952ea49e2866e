"""What the client raises. Each error tells what happened in a sentence for people, and in attributes for programs.

    LedgerError                 anything below
      RefusedError              the ledger decided, and refused: nothing changed, and the same id stays refused
      InvalidRequestError       the request is wrong, and nothing was done: which field, and why
      NotFoundError             there is no such account or transaction
      UnavailableError          no answer within the deadline
        NotDoneError            surely nothing was done: a read, or a write that no server took in
        MaybeDoneError          a server may have taken the write in: look it up by its id, or send the same id again

Where several commands go in one call (`submit`, `submit_rows`, `open_accounts`), a refusal is no error but a value in
the list of outcomes. When such a call raises, `LedgerError.answered` holds the outcomes of the items that were decided
before, in order; the rest is what the error is about.
"""

from collections.abc import Sequence
from typing import Final

from fivenines.api import ItemResult, RowResult

__all__ = [
    "HINTS",
    "InvalidRequestError",
    "LedgerError",
    "MaybeDoneError",
    "NotDoneError",
    "NotFoundError",
    "RefusedError",
    "UnavailableError",
]

HINTS: Final = {
    "id_reused": "This id was decided before, for other content. Make a new id for a new command.",
    "id_expired": "The id is too old for the ledger to know whether it was decided. Check the account's history before "
    "sending the command with a new id.",
    "id_in_future": "The id's time is ahead of the ledger's. Check the clock of the machine that made it.",
    "asset_unknown": "Register the asset first: create_asset(...).",
    "asset_exists": "An asset code has one scale for ever: use the scale it was registered with, or another code.",
    "account_unknown": "Open the account first: open_account(...).",
    "account_exists": "The account is there with other content. To change it: change_account(...).",
    "account_frozen": "Unfreeze the account first: unfreeze(...).",
    "account_closed": "The account is closed. Use another one.",
    "account_not_empty": "Move the account's balance away, and settle or release its holds, before closing it.",
    "same_account": "Source and destination must differ.",
    "asset_mismatch": "A posting moves one asset. To exchange, use two postings, through accounts that hold liquidity.",
    "insufficient_funds": "Put money in the source account first, or lower its min_balance.",
    "balance_limit_exceeded": "Raise the destination's max_balance, or send less.",
    "total_overflow": "An account's totals end at 2^127 - 1. Use another account.",
    "hold_unknown": "Check the hold's id. A hold that was refused cannot be settled or released.",
    "hold_already_settled": "The hold was settled to its end. Make a new hold, or post.",
    "hold_already_released": "The hold was released. Make a new hold, or post.",
    "hold_expired": "The hold's timeout passed, and its money is free again. Make a new hold, or post.",
    "hold_exceeded": "Settle no more than is left of the hold, between accounts that it names.",
    "rules_not_newer": "These rules, or newer ones, are in force already.",
    "limits_conflict": "Choose limits with min_balance <= max_balance that admit the balance the account has.",
    "malformed": "The command breaks a limit of the ledger. Compare it with the API's description.",
}
"""What to do about a refusal, by outcome."""


class LedgerError(Exception):
    """Something kept a call from its answer.

    Attributes:
        answered: of a call with several commands: the outcomes of those that were decided before the error, in order.
    """

    answered: Sequence[ItemResult | RowResult] = ()


class RefusedError(LedgerError):
    """The ledger decided on the command and refused it: nothing changed.

    Attributes:
        outcome: the name of the refusal, such as `insufficient_funds`.
        id: the id of the transaction, or of the account.
        position: the frame that decided it, where known.
        detail: what the server says beyond the outcome.
        hint: what to do about it; empty for an outcome that this version of the client does not know.
    """

    def __init__(self, outcome: str, *, id: str, position: int | None = None, detail: str | None = None) -> None:
        self.outcome, self.id, self.position, self.detail = outcome, id, position, detail
        self.hint = HINTS.get(outcome, "")
        sentences = [f"The ledger refused {id}: {outcome.replace('_', ' ')} ({outcome})."]
        sentences += [_sentence(detail)] if detail else []
        sentences += [self.hint] if self.hint else []
        super().__init__(" ".join(sentences))


class InvalidRequestError(LedgerError):
    """The request is wrong, and nothing was done. Sending it again changes nothing.

    Attributes:
        field: what is wrong, as a JSON path such as `$.postings[0].amount`; None where the server names none.
        reason: what is wrong with it.
        status: the HTTP status.
    """

    def __init__(self, reason: str, *, field: str | None = None, status: int) -> None:
        self.field, self.reason, self.status = field, reason, status
        place = f" at {field}" if field else ""
        super().__init__(f"The request is wrong{place}: {_sentence(reason)} (HTTP status {status}; nothing was done)")


class NotFoundError(LedgerError):
    """There is no such account or transaction, as far as the answering server knows.

    Attributes:
        id: what was asked for.
    """

    def __init__(self, id: str, *, detail: str | None = None) -> None:
        self.id = id
        super().__init__(_sentence(detail) if detail else f"The ledger knows nothing of the name {id}.")


class UnavailableError(LedgerError):
    """No answer came within the deadline.

    Attributes:
        ids: the ids of the commands that are without an answer; empty for a read.
        tries: how many requests were sent, or could not be sent.
        reason: what went wrong with the last of them.
    """

    def __init__(self, message: str, *, ids: tuple[str, ...] = (), tries: int, reason: str) -> None:
        self.ids, self.tries, self.reason = ids, tries, reason
        super().__init__(message)


class NotDoneError(UnavailableError):
    """Surely nothing was done: send it again whenever you like, under any id."""

    def __init__(self, *, ids: tuple[str, ...] = (), tries: int, reason: str) -> None:
        super().__init__(
            f"The ledger could not be reached ({_tries(tries)}; last: {reason}). Nothing was done.",
            ids=ids,
            tries=tries,
            reason=reason,
        )


class MaybeDoneError(UnavailableError):
    """The command may have been done: look it up by its id, or send it again under the same id.

    Attributes:
        id: the id of the command, or of the first of several (`ids` has them all).
    """

    def __init__(self, *, ids: tuple[str, ...], tries: int, reason: str) -> None:
        assert ids, "a command without an id cannot be looked up"
        self.id = ids[0]
        others = f" and {len(ids) - 1} more" if len(ids) > 1 else ""
        super().__init__(
            f"The ledger gave no answer about {self.id}{others} ({_tries(tries)}; last: {reason}). It may have been "
            "done: look it up by its id, or send it again under the same id, which never does it twice.",
            ids=ids,
            tries=tries,
            reason=reason,
        )


def _tries(count: int) -> str:
    return "1 try" if count == 1 else f"{count} tries"


def _sentence(text: str) -> str:
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."
