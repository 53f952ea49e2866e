"""One request of a load, carried out by the real client, and everything that it was told written down.

A client library that retries hides a lot, and a judge wants to see it. So a call is looked at while it goes through its
tries: at which position the answer that counts was given, how long the client waited because it had been told to, and
whether what was given up had been refused by anybody, or was only never heard of again.
"""

import time
from collections.abc import Sequence
from typing import Any, Final, TypeVar

from fivenines.api import Posting
from fivenines.client import AsyncLedger, InvalidRequestError, LedgerError, MaybeDoneError, NotFoundError, RefusedError
from fivenines.client.retry import Call, Came
from fivenines.client.wire import Reply
from fivenines.drill.load.asked import Asked
from fivenines.ids import as_text

__all__ = ["NOT_FOUND", "READ", "ask"]

READ: Final = "read"
NOT_FOUND: Final = "not_found"
"""The outcome of a read of an account that is not there, as the server says."""

_FAILED: Final = 500
_TURNED_AWAY: Final = frozenset({429, 503})

T = TypeVar("T")


async def ask(ledger: AsyncLedger, asked: Asked) -> None:
    """Carry one request out, and write down what came of it. Does not raise for anything that a ledger may do.

    Whoever cancels it leaves a request behind that may have been done.
    """
    asked.at_least, asked.sent = ledger.position, time.monotonic()
    watched = _Watched(asked)
    try:
        await _carry_out(ledger, asked, watched)
    except RefusedError as error:
        asked.outcome, asked.position = error.outcome, error.position or 0
    except NotFoundError:
        asked.outcome, asked.position = NOT_FOUND, watched.position
    except LedgerError as error:
        asked.error = str(error)
        asked.is_undone = not isinstance(error, MaybeDoneError)
        asked.is_refused = asked.is_undone and (watched.was_turned_away or isinstance(error, InvalidRequestError))
    except BaseException as error:
        asked.error = f"given up: {error!r}"
        raise
    finally:
        asked.ended = time.monotonic()


async def _carry_out(ledger: AsyncLedger, asked: Asked, watched: "_Watched") -> None:
    operations = ledger.operations
    match asked.kind:
        case "read":
            read = operations.account(asked.destination, at_least=asked.at_least, linearizable=asked.is_linearizable)
            account = await ledger.run(watched.over(read))
            asked.balances, asked.position = {account.id: account.balance}, watched.position
            asked.outcome = READ
            return
        case "total":
            call = operations.accounts_of(asked.accounts, at_least=asked.at_least, linearizable=True)
            found = await ledger.run(watched.over(call))
            asked.balances, asked.position = {each.id: each.balance for each in found}, watched.position
            asked.outcome = READ
            return
        case "post":
            write = operations.transact(_postings(asked), id=as_text(asked.id))
        case "hold":
            write = operations.hold(_postings(asked), id=as_text(asked.id))
        case "settle":
            write = operations.settle(
                as_text(asked.hold), postings=_postings(asked), final=asked.is_final, id=as_text(asked.id)
            )
        case _:
            write = operations.release(as_text(asked.hold), id=as_text(asked.id))
    result = await ledger.run(watched.over(write))
    asked.outcome, asked.position = result.outcome, result.position or 0


def _postings(asked: Asked) -> Sequence[Posting]:
    return [Posting(asked.source, asked.destination, asked.amount)] if asked.amount else []


class _Watched:
    """What is seen of a call while it goes through its tries."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self.position = 0
        """Of the last answer: the one that counts, where the call came to an end with one."""
        self.was_turned_away = False
        """Whether a server said that it has too much to do, or cannot do it now."""

    def over(self, call: Call[T]) -> Call[T]:
        """Carry a call through its tries, unchanged."""
        came: Came | None = None
        while True:
            try:
                step = call.send(came)
            except StopIteration as end:
                answer: T = end.value
                return answer
            came = yield step
            if came is not None:
                self._note(came.what)

    def _note(self, what: Any) -> None:
        self._asked.tries += 1
        self._asked.failed_tries += not isinstance(what, Reply) or what.status >= _FAILED
        if not isinstance(what, Reply):
            return
        if what.position is not None:
            self.position = what.position
        if what.status in _TURNED_AWAY:
            self.was_turned_away = True
