"""What the journal tells of the past: transactions, the history of an account, events.

The journal holds what was asked, the ledger's memory of decided ids how it was decided and in which frame. Together
they give the history of the retention window without another store: slowly, since frames are looked through one by
one, so each request looks through a bounded number of them and says where to go on.
"""

import datetime
from collections.abc import Iterator
from typing import Any

import msgspec

from fivenines.api import Event, Posting, Transaction
from fivenines.journal import Frame, Journal
from fivenines.ledger import (
    ChangeAccount,
    Command,
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
from fivenines.node.requests import text_of_id

__all__ = ["account_history", "events", "rfc3339", "transaction_at"]

_FRAMES_PER_STEP = 64
_FRAMES_MAX = 1_024
_EVENTS_FRAME_MAX = 256

_KINDS = {PostOne: "post", Post: "post", Hold: "hold", Settle: "settle", Release: "release"}


def transaction_at(journal: Journal, position: int, id: bytes, outcome: int) -> Transaction | None:
    """Return the transaction that frame `position` decided; None if `id` is not of a transaction. Blocks on the disk.

    Raises:
        TrimmedError: the frame was trimmed away.
    """
    frame = next(journal.read(position))
    batch = decode(frame.payload)
    for command in batch.commands:
        if type(command) in _KINDS and command.id == id:  # type: ignore[union-attr]
            return _transaction(command, Outcome(outcome).name, position, batch.time_us)
    return None


def account_history(
    journal: Journal, state: State, account: str, *, before: int, limit: int
) -> tuple[list[Transaction], int | None]:
    """Return transactions that touch `account`, the newest first, and the position to go on before, None at the end.

    All of a frame's are returned together, so a page may be longer than `limit`; one with few or none is a page all the
    same when it looked through as many frames as one request may. Blocks on the disk.
    """
    found: list[Transaction] = []
    end = before
    looked = 0
    while end > journal.first and len(found) < limit and looked < _FRAMES_MAX:
        start = max(journal.first, end - _FRAMES_PER_STEP)
        frames = _some(journal, start, end)
        for frame in reversed(frames):
            end = frame.position
            looked += 1
            found += reversed([t for t in _decided_in(frame, state) if _touches(journal, state, t, account)])
            if len(found) >= limit:
                break
    return found, end if end > journal.first else None


def events(journal: Journal, state: State, *, after: int, limit: int, source: str) -> tuple[list[Event], int]:
    """Return what was decided after position `after`, the oldest first, and the position up to which that is all.

    Blocks on the disk. Raises `TrimmedError` if the journal begins later.
    """
    found: list[Event] = []
    position = after
    last = state.position
    if after >= last:
        return [], after
    for frame in journal.read(after + 1):
        if frame.position > last or (found and len(found) >= limit) or frame.position > after + _EVENTS_FRAME_MAX:
            break
        position = frame.position
        for index, transaction in enumerate(_decided_in(frame, state)):
            found.append(
                Event(
                    id=f"{position}-{index}",
                    source=source,
                    type=f"fivenines.transaction.{_past(transaction.outcome)}",
                    subject=transaction.id,
                    time=transaction.time,
                    data=transaction,
                )
            )
    return found, position


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


def _decided_in(frame: Frame, state: State) -> Iterator[Transaction]:
    batch = decode(frame.payload)
    for command in batch.commands:
        if type(command) not in _KINDS:
            continue
        known = state.decision(command.id)  # type: ignore[union-attr]
        if known is not None and known.position == frame.position:
            yield _transaction(command, Outcome(known.outcome).name, frame.position, batch.time_us)


def _touches(journal: Journal, state: State, transaction: Transaction, account: str) -> bool:
    postings = transaction.postings
    if not postings and transaction.hold is not None:
        # A settlement of everything, or a release, names no account: its hold does.
        hold = bytes.fromhex(transaction.hold.replace("-", ""))
        known = state.decision(hold)
        if known is None or known.position is None or known.position < journal.first:
            return False
        held = transaction_at(journal, known.position, hold, known.outcome)
        postings = held.postings if held else []
    return any(account in {posting.source, posting.destination} for posting in postings)


def _past(outcome: str) -> str:
    return outcome if not Outcome[outcome].is_refusal else "refused"


def _transaction(command: Command, outcome: str, position: int, time_us: int) -> Transaction:
    assert not isinstance(command, OpenAccount | ChangeAccount)
    kind: Any = _KINDS[type(command)]
    time = rfc3339(time_us)
    if isinstance(command, PostOne):
        postings = [Posting(command.source, command.destination, command.amount)]
        return Transaction(text_of_id(command.id), kind, outcome, position, time, postings)
    fields: dict[str, Any] = {name: getattr(command, name) for name in ("reference", "final") if hasattr(command, name)}
    if hold := getattr(command, "hold", None):
        fields["hold"] = text_of_id(hold)
    if (timeout_us := getattr(command, "timeout_us", None)) is not None:
        fields["timeout_s"] = timeout_us // 1_000_000
    if (day := getattr(command, "effective_date", None)) is not None:
        fields["effective_date"] = datetime.date.fromisoformat(day)
    if (metadata := getattr(command, "metadata", None)) is not None:
        fields["metadata"] = msgspec.json.decode(metadata)
    return Transaction(
        text_of_id(command.id),  # type: ignore[union-attr]
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
