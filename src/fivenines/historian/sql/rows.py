"""From steps to rows: what each frame did, as plain tuples for the tables of a version.

Nothing here touches a database. The books are brought along, hold every account and hold that the steps are about, and
are carried on. Nearly all commands are transactions of one posting that succeed. Those take a short way: of each frame
they stay together as a `Run`, which says once what all have in common, and which a database's writer makes into text
without making rows of it first.

A step may name ids that were decided before, or never were. The rows have what `fivenines.node.history` tells of: each
transaction where it was decided, and nothing for a repeated, reused, expired or future id.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from operator import attrgetter
from typing import Any, cast

import msgspec

from fivenines.historian.follower import Step
from fivenines.historian.sql.books import AccountBook, Books, HoldBook
from fivenines.historian.sql.schema import EXPIRY_ITEM, Effect
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
    Status,
    Transaction,
)

__all__ = ["KINDS", "Needs", "Rows", "Run", "build_rows", "needs_of", "tag_of", "tags_of"]

KINDS = {PostOne: "post", Post: "post", Hold: "hold", Settle: "settle", Release: "release"}

_UNDECIDED = frozenset({Outcome.id_reused, Outcome.id_expired, Outcome.id_in_future})
"""Outcomes that are not of the command: its id was decided elsewhere, or never."""

_NAMES = {int(outcome): outcome.name for outcome in Outcome}
_STATUSES = {int(status): status.name for status in Status}
_STAMP_MAX = 2**63 - 1
_POSTED = int(Outcome.posted)
_PLAIN = {PostOne}
_source_of, _destination_of = attrgetter("source"), attrgetter("destination")


@dataclass(slots=True)
class Run:
    """Transactions of one posting that a frame carried out: a row of `transactions` and one of `postings` each."""

    position: int
    time_us: int
    items: Sequence[int]
    commands: Sequence[PostOne]


@dataclass(slots=True)
class Rows:
    """The rows of some steps, in the order of the columns in `schema`."""

    frames: list[tuple[int, int, int, int]] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    """What `transactions` and `postings` have besides."""
    transactions: list[tuple[Any, ...]] = field(default_factory=list)
    postings: list[tuple[int, int, int, str, str, str, int]] = field(default_factory=list)
    tags: list[tuple[bytes, int, int]] = field(default_factory=list)
    balances: list[tuple[str, int, int, int, int, int]] = field(default_factory=list)
    accounts: dict[str, AccountBook] = field(default_factory=dict)
    """The accounts that changed, to be written as they stand after the last step."""
    holds: dict[bytes, HoldBook] = field(default_factory=dict)
    """The same for holds."""


@dataclass(slots=True)
class Needs:
    """The accounts and holds that steps are about."""

    accounts: set[str] = field(default_factory=set)
    holds: set[bytes] = field(default_factory=set)


def needs_of(steps: Iterable[Step]) -> Needs:
    """Return what the books must hold, as far as it exists, before `build_rows`; and the accounts of those holds."""
    needs = Needs()
    need_account = needs.accounts.add
    for step in steps:
        needs.holds.update(step.applied.expired)
        if _is_plain(step):
            needs.accounts.update(map(_source_of, step.batch.commands))
            needs.accounts.update(map(_destination_of, step.batch.commands))
            continue
        for command in step.batch.commands:
            if type(command) is PostOne:
                need_account(command.source)
                need_account(command.destination)
            elif isinstance(command, OpenAccount | ChangeAccount):
                need_account(command.account)
            else:
                if isinstance(command, Settle | Release):
                    needs.holds.add(command.hold)
                for posting in getattr(command, "postings", ()):
                    need_account(posting.source)
                    need_account(posting.destination)
    return needs


def _is_plain(step: Step) -> bool:
    """Return whether the frame is one run. Looked up without a loop of Python's: most large frames are."""
    applied = step.applied
    return (
        not applied.repeated
        and applied.outcomes.count(_POSTED) == len(applied.outcomes)
        and set(map(type, step.batch.commands)) == _PLAIN
    )


def build_rows(books: Books, steps: Sequence[Step], *, with_balances: bool) -> Rows:
    """Return the rows of `steps`, and carry the books on."""
    rows = Rows()
    for step in steps:
        _Frame(books, rows, step).run(with_balances=with_balances)
    return rows


class _Frame:
    """The rows of one frame in the making."""

    def __init__(self, books: Books, rows: Rows, step: Step) -> None:
        self._books = books
        self._rows = rows
        self._step = step
        self._position = step.applied.position
        self._touched: dict[str, AccountBook] = {}

    def run(self, *, with_balances: bool) -> None:
        rows, step, touched = self._rows, self._step, self._touched
        position, time_us = self._position, step.applied.time_us
        self._expire(step.applied.expired)
        if _is_plain(step):
            commands = cast(Sequence[PostOne], step.batch.commands)
            run = Run(position, time_us, range(len(commands)), commands)
            item = len(commands)
        else:
            run, item = self._decided()
        if run.commands:
            rows.runs.append(run)
            self._carry_out(run.commands)
        stamped_us = max(-_STAMP_MAX, min(step.batch.time_us, _STAMP_MAX))
        rows.frames.append((position, time_us, stamped_us, item))
        rows.accounts.update(touched)
        if with_balances:
            rows.balances += [
                (id, position, a.debits, a.credits, a.held_debits, a.held_credits) for id, a in touched.items()
            ]

    def _decided(self) -> tuple[Run, int]:
        """Add the rows of all commands but those of the run; return it, and how many transactions were decided."""
        applied = self._step.applied
        items: list[int] = []
        plain: list[PostOne] = []
        item = 0
        for number, (command, outcome) in enumerate(zip(self._step.batch.commands, applied.outcomes, strict=True)):
            if number in applied.repeated:
                continue
            if isinstance(command, PostOne | Transaction):
                if outcome in _UNDECIDED:
                    continue
                if outcome == _POSTED and isinstance(command, PostOne):
                    items.append(item)
                    plain.append(command)
                else:
                    self._transaction(command, outcome, item)
                item += 1
            elif outcome == Outcome.done:
                self._account(command)
        return Run(self._position, applied.time_us, items, plain), item

    def _carry_out(self, commands: Sequence[PostOne]) -> None:
        accounts, touched = self._books.accounts, self._touched
        for command in commands:
            amount = command.amount
            accounts[command.source].debits += amount
            accounts[command.destination].credits += amount
        for id in set(map(_source_of, commands)) | set(map(_destination_of, commands)):
            touched[id] = accounts[id]

    def _transaction(self, command: PostOne | Transaction, outcome: int, item: int) -> None:
        metadata: bytes | None = getattr(command, "metadata", None)
        self._rows.transactions.append(
            (
                self._position,
                item,
                command.id,
                KINDS[type(command)],
                _NAMES[outcome],
                self._step.applied.time_us,
                getattr(command, "effective_date", None),
                getattr(command, "reference", None),
                None if metadata is None else metadata.decode(errors="replace"),
                getattr(command, "hold", None),
                getattr(command, "final", None),
                getattr(command, "timeout_us", None),
            )
        )
        if metadata is not None:
            self._rows.tags += [(tag, self._position, item) for tag in dict.fromkeys(tags_of(metadata))]
        asked = (
            [(command.source, command.destination, command.amount)]
            if isinstance(command, PostOne)
            else [(p.source, p.destination, p.amount) for p in getattr(command, "postings", ())]
        )
        if outcome >= 8:  # a refusal
            self._postings(item, 0, Effect.refused, asked)
            return
        match command:
            case PostOne() | Post():
                self._postings(item, 0, Effect.post, asked)
            case Hold():
                self._postings(item, 0, Effect.hold, asked)
                self._open_hold(command, item)
            case Settle():
                self._settle(command, item, asked)
            case Release():
                hold = self._hold(command.hold)
                self._postings(item, 0, Effect.give_back, _left(hold))
                self._end(hold, "released")

    def _open_hold(self, command: Hold, item: int) -> None:
        remaining: dict[tuple[str, str], int] = {}
        for posting in command.postings:
            between = posting.source, posting.destination
            remaining[between] = remaining.get(between, 0) + posting.amount
        timeout_us = command.timeout_us
        expires_us = None if timeout_us is None else self._step.applied.time_us + timeout_us
        hold = HoldBook(command.id, self._position, item, expires_us, remaining)
        self._books.holds[command.id] = self._rows.holds[command.id] = hold

    def _settle(self, command: Settle, item: int, asked: list[tuple[str, str, int]]) -> None:
        hold = self._hold(command.hold)
        taken = asked or _left(hold)
        self._postings(item, 0, Effect.settle if asked else Effect.settle_rest, taken)
        for source, destination, amount in taken:
            left = hold.remaining[source, destination] - amount
            if left:
                hold.remaining[source, destination] = left
            else:
                del hold.remaining[source, destination]
        if command.final or not hold.remaining:
            self._postings(item, len(taken), Effect.give_back, _left(hold))
            self._end(hold, "settled")

    def _expire(self, expired: Sequence[bytes]) -> None:
        line = 0
        for id in expired:
            hold = self._hold(id)
            left = _left(hold)
            self._postings(EXPIRY_ITEM, line, Effect.give_back, left)
            line += len(left)
            self._end(hold, "expired")

    def _hold(self, id: bytes) -> HoldBook:
        hold = self._rows.holds[id] = self._books.holds[id]
        return hold

    def _end(self, hold: HoldBook, state: str) -> None:
        hold.state = state
        hold.ended_position = self._position
        hold.remaining = {}
        del self._books.holds[hold.id]

    def _postings(self, item: int, first_line: int, effect: Effect, moves: Iterable[tuple[str, str, int]]) -> None:
        """Add the rows of postings, and do to the accounts what they did."""
        accounts, touched = self._books.accounts, self._touched
        position, name = self._position, effect.value
        for line, (source_id, destination_id, amount) in enumerate(moves, first_line):
            self._rows.postings.append((position, item, line, name, source_id, destination_id, amount))
            if effect is Effect.refused:
                continue
            source = touched[source_id] = accounts[source_id]
            destination = touched[destination_id] = accounts[destination_id]
            if effect in {Effect.post, Effect.settle, Effect.settle_rest}:
                source.debits += amount
                destination.credits += amount
            if effect is not Effect.post:
                held = amount if effect is Effect.hold else -amount
                source.held_debits += held
                destination.held_credits += held

    def _account(self, command: Command) -> None:
        """Open or change an account. To open one again with the same content is `done` too, and changes nothing."""
        accounts = self._books.accounts
        match command:
            case OpenAccount(account=id) if id not in accounts:
                account = AccountBook(
                    id,
                    command.asset,
                    self._position,
                    min_balance=command.min_balance,
                    max_balance=command.max_balance,
                    metadata=command.metadata,
                )
                accounts[id] = self._rows.accounts[id] = account
            case ChangeAccount(account=id):
                account = self._rows.accounts[id] = accounts[id]
                if command.status is not None:
                    account.status = _STATUSES[command.status]
                if command.limits is not None:
                    account.min_balance, account.max_balance = command.limits
                if command.metadata is not None:
                    account.metadata = command.metadata


def tags_of(metadata: bytes) -> Iterator[bytes]:
    """Yield the tag of each pair of `metadata` that can be searched for: whose value is not itself a structure."""
    try:
        pairs = msgspec.json.decode(metadata)
    except msgspec.DecodeError:
        return  # the books carry what they are given
    if isinstance(pairs, dict):
        for key, value in pairs.items():
            if isinstance(value, str):
                yield tag_of(key, value)
            elif not isinstance(value, dict | list):
                yield tag_of(key, msgspec.json.encode(value).decode())


def tag_of(key: str, value: str) -> bytes:
    """Return sixteen bytes that stand for a pair, whatever its length."""
    return blake2b(f"{len(key)}:{key}{value}".encode(errors="surrogatepass"), digest_size=16).digest()


def _left(hold: HoldBook) -> list[tuple[str, str, int]]:
    return [(source, destination, amount) for (source, destination), amount in hold.remaining.items()]
