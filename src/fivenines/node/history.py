"""What the journal tells of the past: transactions, the history of an account, events.

The journal holds what was asked, the ledger's memory of decided ids how it was decided and in which frame. Together
they give the history of the retention window without another store: slowly, since frames are looked through one by
one, so each request looks through a bounded number of them and says where to go on.
"""

import datetime
from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from fivenines.api import Event, Posting, Transaction
from fivenines.ids import as_text
from fivenines.journal import Frame, Journal
from fivenines.ledger import (
    Batch,
    ChangeAccount,
    Command,
    Decided,
    Hold,
    OpenAccount,
    Outcome,
    Post,
    PostOne,
    Release,
    Settle,
    State,
    decode,
)
from fivenines.node.filters import ALL_EVENTS, EventFilter

__all__ = [
    "KnownHolds",
    "account_history",
    "event_of",
    "events",
    "json_number",
    "rfc3339",
    "transaction_at",
    "transaction_of",
    "with_hold_state",
]

_FRAMES_PER_STEP = 64
_FRAMES_MAX = 1_024
_COMMANDS_MAX = 100_000  # to look through these takes a tenth of a second of everybody's time
_EVENTS_FRAME_MAX = 256
_HOLDS_KNOWN_MAX = 20_000  # some 10 MB

_ENDINGS: dict[int, Literal["settled", "released", "expired"]] = {
    Outcome.settled: "settled",
    Outcome.released: "released",
    Outcome.hold_expired: "expired",
}
_KINDS = {PostOne: "post", Post: "post", Hold: "hold", Settle: "settle", Release: "release"}

Decision = Callable[[bytes], Decided | None]
"""How an id was decided, None if it was not. To be called from any thread, so not the state's own."""


def transaction_at(journal: Journal, position: int, id: bytes, outcome: int) -> Transaction | None:
    """Return the transaction that frame `position` decided; None if `id` is not of a transaction. Blocks on the disk.

    Raises:
        TrimmedError: the frame was trimmed away.
    """
    frame = next(journal.read(position))
    batch = decode(frame.payload)
    for command in batch.commands:
        if getattr(command, "id", None) == id:
            return (
                transaction_of(command, Outcome(outcome).name, position, batch.time_us)
                if _is_transaction(command)
                else None
            )
    return None


def with_hold_state(transaction: Transaction, state: State, id: bytes) -> Transaction:
    """Say of a hold, as a transaction, how it stands now. To be called on the event loop, where the state is whole."""
    if transaction.outcome != Outcome.held.name:
        return transaction
    hold = state.holds.get(id)
    if hold is None:
        ended = state.ended_holds.find(id)
        return msgspec.structs.replace(transaction, state=_ENDINGS[ended.outcome] if ended else None)
    remaining = [
        Posting(held.source.id, held.destination.id, json_number(held.remaining))
        for held in hold.postings.values()
        if held.remaining
    ]
    expires = rfc3339(hold.expires_us) if hold.expires_us is not None else None
    return msgspec.structs.replace(transaction, state="open", remaining=remaining, expires=expires)


def account_history(
    journal: Journal, decision: Decision, account: str, *, before: int, limit: int, known: "KnownHolds | None" = None
) -> tuple[list[Transaction], int | None]:
    """Return transactions that touch `account`, the newest first, and the position to go on before, None at the end.

    All of a frame's are returned together, so a page may be longer than `limit`; one with few or none is a page all the
    same when it looked through as much as one request may. Blocks on the disk.
    """
    found: list[Transaction] = []
    end = before
    frames_looked = commands_looked = 0
    holds = _Holds(journal, decision, known or KnownHolds())
    while end > journal.first and len(found) < limit and frames_looked < _FRAMES_MAX:
        start = max(journal.first, end - _FRAMES_PER_STEP)
        for frame in reversed(_some(journal, start, end)):
            end = frame.position
            batch = decode(frame.payload)
            decided = _decided(batch, frame.position, decision, lambda command: _touches(command, account, holds))
            found += reversed(list(decided))
            frames_looked += 1
            commands_looked += len(batch.commands)
            if len(found) >= limit or commands_looked + holds.commands_looked >= _COMMANDS_MAX:
                return found, end if end > journal.first else None
    return found, end if end > journal.first else None


def events(
    journal: Journal,
    decision: Decision,
    *,
    after: int,
    last: int,
    limit: int,
    source: str,
    wanted: EventFilter = ALL_EVENTS,
    known: "KnownHolds | None" = None,
) -> tuple[list[Event], int]:
    """Return what was decided after position `after`, the oldest first, and the position up to which that is all.

    `last` is the last position that is applied. Frames are taken whole. However few events are wanted, it looks through
    a bounded number of frames and commands, and then says how far it came. Blocks on the disk. Raises `TrimmedError` if
    the journal begins later.
    """
    found: list[Event] = []
    position = after
    commands_looked = 0
    holds = _Holds(journal, decision, known or KnownHolds())
    if after >= last:
        return [], after
    for frame in journal.read(after + 1):
        is_enough = len(found) >= limit or commands_looked + holds.commands_looked >= _COMMANDS_MAX
        if frame.position > last or (position > after and is_enough) or frame.position > after + _EVENTS_FRAME_MAX:
            break
        position = frame.position
        batch = decode(frame.payload)
        commands_looked += len(batch.commands)
        for index, transaction in enumerate(_decided(batch, position, decision)):
            holds.note(transaction)
            event = event_of(transaction, index, source, _accounts_of_hold(transaction, holds))
            if wanted.matches(event):
                found.append(event)
    return found, position


def _accounts_of_hold(transaction: Transaction, holds: "_Holds") -> str | UnsetType:
    """Return the accounts of the hold that a transaction is about, with commas."""
    if transaction.hold is None:
        return UNSET
    accounts = holds.accounts(UUID(transaction.hold).bytes)
    return ",".join(sorted(accounts)) if accounts else UNSET


def event_of(transaction: Transaction, index: int, source: str, accounts: str | UnsetType = UNSET) -> Event:
    """Return the event of a transaction that was the `index`th its frame decided; `accounts` are those of its hold."""
    return Event(
        id=f"{transaction.position}-{index}",
        source=source,
        type=f"fivenines.transaction.{_past(transaction.outcome)}",
        subject=transaction.id,
        time=transaction.time,
        accounts=accounts,
        data=transaction,
    )


def rfc3339(time_us: int) -> str:
    """Write a journal time as RFC 3339, UTC, to the microsecond."""
    moment = datetime.datetime.fromtimestamp(time_us // 1_000_000, datetime.UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{time_us % 1_000_000:06}Z"


def _some(journal: Journal, start: int, end: int) -> list[Frame]:
    frames = []
    for frame in journal.read(start):
        if frame.position >= end:
            break
        frames.append(frame)
    return frames


def _decided(
    batch: Batch, position: int, decision: Decision, is_wanted: Callable[[Command], bool] = lambda _command: True
) -> Iterator[Transaction]:
    """Yield the transactions that the frame at `position` decided; an id that comes twice was decided by the first."""
    seen: set[bytes] = set()
    for command in batch.commands:
        id = getattr(command, "id", None)
        if id is None or id in seen:
            continue
        seen.add(id)
        if _is_transaction(command) and is_wanted(command):
            known = decision(id)
            if known is not None and known.position == position:
                yield transaction_of(command, Outcome(known.outcome).name, position, batch.time_us)


def _is_transaction(command: Command) -> bool:
    """Return whether `command` is a transaction."""
    return type(command) in _KINDS


class KnownHolds:
    """The accounts of holds that were come across lately, for all who look into one journal, from any thread.

    Who reads events comes across most holds before what settles them, if not always on the same page. Looking for one
    costs far more than its frame where the journal has that no longer in memory: it reads on from the last mark.
    """

    def __init__(self, most: int = _HOLDS_KNOWN_MAX) -> None:
        self._accounts: dict[bytes, frozenset[str]] = {}
        self._most = most
        self._lock = Lock()

    def get(self, hold: bytes) -> frozenset[str] | None:
        """Return the accounts of a hold; None if it was not come across, or is forgotten."""
        return self._accounts.get(hold)

    def note(self, hold: bytes, accounts: frozenset[str]) -> None:
        """Keep the accounts of a hold, and forget the one that was noted first if there are too many."""
        with self._lock:
            self._accounts[hold] = accounts
            if len(self._accounts) > self._most:
                del self._accounts[next(iter(self._accounts))]


class _Holds:
    """The accounts of holds. A settlement of all that is held, or a release, names no account: its hold does."""

    def __init__(self, journal: Journal, decision: Decision, known: KnownHolds) -> None:
        self.commands_looked = 0
        self._journal = journal
        self._decision = decision
        self._known = known
        self._frames: set[int] = set()

    def accounts(self, hold: bytes) -> frozenset[str]:
        """Return the accounts that a hold is about; none, if its frame was trimmed away."""
        if (accounts := self._known.get(hold)) is not None:
            return accounts
        decided = self._decision(hold)
        if decided is not None and decided.position is not None and decided.position not in self._frames:
            self._look_into(decided.position)
        return self._known.get(hold) or frozenset()

    def note(self, transaction: Transaction) -> None:
        """Take note of a transaction that was come across: nobody has to look for a hold any more."""
        if transaction.kind == "hold":
            self._known.note(UUID(transaction.id).bytes, _named_in(transaction.postings))

    def _look_into(self, position: int) -> None:
        self._frames.add(position)
        if position < self._journal.first:
            return
        batch = decode(next(self._journal.read(position)).payload)
        self.commands_looked += len(batch.commands)
        for transaction in _decided(batch, position, self._decision, lambda command: isinstance(command, Hold)):
            self.note(transaction)


def _named_in(postings: list[Posting]) -> frozenset[str]:
    return frozenset(account for posting in postings for account in (posting.source, posting.destination))


def _touches(command: Command, account: str, holds: _Holds) -> bool:
    if type(command) is PostOne:
        return account in {command.source, command.destination}
    if isinstance(command, Settle | Release) and not getattr(command, "postings", ()):
        return account in holds.accounts(command.hold)
    return any(account in {posting.source, posting.destination} for posting in getattr(command, "postings", ()))


def _past(outcome: str) -> str:
    return outcome if not Outcome[outcome].is_refusal else "refused"


def transaction_of(command: Command, outcome: str, position: int, time_us: int) -> Transaction:
    """Return a command that is a transaction as the API shows it; `time_us` is what the frame's writer stamped."""
    assert not isinstance(command, OpenAccount | ChangeAccount)
    kind: Any = _KINDS[type(command)]
    time = rfc3339(time_us)
    if isinstance(command, PostOne):
        postings = [Posting(command.source, command.destination, json_number(command.amount))]
        return Transaction(as_text(command.id), kind, outcome, position, time, postings)
    fields: dict[str, Any] = {name: getattr(command, name) for name in ("reference", "final") if hasattr(command, name)}
    if hold := getattr(command, "hold", None):
        fields["hold"] = as_text(hold)
    if (timeout_us := getattr(command, "timeout_us", None)) is not None:
        fields["timeout_s"] = timeout_us // 1_000_000
    if (day := getattr(command, "effective_date", None)) is not None:
        fields["effective_date"] = datetime.date.fromisoformat(day)
    if (metadata := getattr(command, "metadata", None)) is not None:
        fields["metadata"] = msgspec.json.decode(metadata)
    return Transaction(
        as_text(command.id),  # type: ignore[union-attr]
        kind,
        outcome,
        position,
        time,
        [Posting(p.source, p.destination, json_number(p.amount)) for p in getattr(command, "postings", ())],
        **fields,
    )


def json_number(value: int) -> int | str:
    """Return `value` as every JSON reader can take it: as a string of digits where it is beyond 2^53 - 1."""
    return value if -(2**53) < value < 2**53 else str(value)
