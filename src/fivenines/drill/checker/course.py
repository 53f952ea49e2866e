"""What a journal comes to, position by position, worked out by plain code of our own.

Of the ledger's machinery nothing is used here but the reading of commands: what it decides is decided anew, by ladders
of refusals written down a second time, in dicts of integers. So whatever the ledger does otherwise shows as a
difference, down to the chain over all outcomes that its nodes keep (`Course.outcomes`): that one is a digest of every
outcome ever, and ours must be the same.

One thing it does not forget: how a hold ended. The ledger does, a month later, and drills are over long before.

Kept is what a judge asks for: how each id was decided and where, where it was found again, and the totals of each
account after every frame that changed them.
"""

import heapq
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final, NamedTuple

from fivenines.journal import Frame
from fivenines.ledger import (
    AMOUNT_MAX,
    RULES,
    Activate,
    ChangeAccount,
    Command,
    Hold,
    OpenAccount,
    Outcome,
    Post,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
    decode,
)

__all__ = ["DONE", "AccountCourse", "Course", "Decision", "HoldCourse", "Totals", "course_of"]

DONE: Final = frozenset({"posted", "held", "settled", "released"})
"""The outcomes of transactions that were carried out."""

_TIME_US_MAX: Final = 2**48 * 1000 - 1
_TIMEOUT_US_MAX: Final = 2**62
_KINDS: Final[dict[type[Command], str]] = {
    PostOne: "post",
    Post: "post",
    Hold: "hold",
    Settle: "settle",
    Release: "release",
    ChangeAccount: "change",
}
_OPEN, _FROZEN, _CLOSED = range(3)


class Totals(NamedTuple):
    """What went through an account, and what is held of it, in smallest units of its asset."""

    debits: int = 0
    credits: int = 0
    held_debits: int = 0
    held_credits: int = 0

    @property
    def balance(self) -> int:
        """Credits - debits."""
        return self.credits - self.debits

    @property
    def available(self) -> int:
        """The balance less what is held."""
        return self.credits - self.debits - self.held_debits


class Decision(NamedTuple):
    """How a command with an id was decided, the first time."""

    id: bytes
    position: int
    item: int
    """Which of the transactions that its frame decided, from 0; -1 for the change of an account."""
    kind: str
    outcome: str
    command: Command

    @property
    def is_done(self) -> bool:
        """Whether it changed anything."""
        return self.outcome in DONE


@dataclass(slots=True)
class AccountCourse:
    """An account, position by position."""

    asset: str
    opened: int
    floors: list[tuple[int, int | None, int | None]]
    """(position, min_balance, max_balance) from when on they hold."""
    positions: list[int] = field(default_factory=list)
    totals: list[Totals] = field(default_factory=list)
    """After each of the positions."""

    def at(self, position: int) -> Totals | None:
        """The totals after a frame; None: it was not open then."""
        if position < self.opened:
            return None
        place = bisect_right(self.positions, position)
        return self.totals[place - 1] if place else Totals()

    def limits_at(self, position: int) -> tuple[int | None, int | None]:
        """The least and the highest balance after a frame; None: no limit."""
        place = max(0, bisect_right(self.floors, position, key=lambda each: each[0]) - 1)
        return self.floors[place][1:]


@dataclass(slots=True)
class HoldCourse:
    """A hold, and how far it came."""

    remaining: dict[tuple[str, str], int]
    amount: int
    expires_us: int | None
    ended: Outcome | None = None


@dataclass(slots=True)
class Course:
    """What a journal comes to."""

    position: int = 0
    """Of the last frame."""
    time_us: int = 0
    decisions: dict[bytes, Decision] = field(default_factory=dict)
    """By id."""
    found_again: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Where ids were found again after they had been decided: retries whose first answer was lost."""
    reused: dict[bytes, list[int]] = field(default_factory=lambda: defaultdict(list))
    """Where ids were found again with other content."""
    traceless: dict[bytes, list[tuple[int, str]]] = field(default_factory=lambda: defaultdict(list))
    """Ids that were refused for their time: with the position and the outcome."""
    accounts: dict[str, AccountCourse] = field(default_factory=dict)
    holds: dict[bytes, HoldCourse] = field(default_factory=dict)
    rests: dict[bytes, tuple[Posting, ...]] = field(default_factory=dict)
    """What a settlement took of its hold without naming it, or a settlement or a release gave back, by its id."""
    digests: list[bytes] = field(default_factory=list)
    """Of each frame, from position 1 on."""
    outcomes: list[bytes] = field(default_factory=lambda: [bytes(32)])
    """The chain over all outcomes after each position, from 0 on."""
    commands: int = 0

    def totals_at(self, account: str, position: int) -> Totals | None:
        """The totals of an account after a frame; None: there was no such account then."""
        known = self.accounts.get(account)
        return None if known is None else known.at(position)


def course_of(frames: Iterable[Frame]) -> Course:
    """Work out what frames from position 1 on come to.

    Raises:
        ValueError: they do not begin at position 1, or one is missing.
    """
    worker = _Worker()
    for frame in frames:
        worker.take(frame)
    return worker.course


@dataclass(slots=True)
class _Account:
    """An account as it stands."""

    asset: str
    opening: OpenAccount
    floor: int | None
    ceiling: int | None
    status: int = _OPEN
    debits: int = 0
    credits: int = 0
    held_debits: int = 0
    held_credits: int = 0

    def totals(self) -> Totals:
        return Totals(self.debits, self.credits, self.held_debits, self.held_credits)

    def is_within(self, floor: int | None, ceiling: int | None) -> bool:
        available = self.credits - self.debits - self.held_debits
        coming = self.credits - self.debits + self.held_credits
        return (floor is None or available >= floor) and (ceiling is None or coming <= ceiling)


class _Worker:
    """Takes frame after frame."""

    def __init__(self) -> None:
        self.course = Course()
        self._rules = RULES[1]
        self._horizon = bytes(16)
        self._assets: dict[str, str] = {}
        self._accounts: dict[str, _Account] = {}
        self._contents: dict[bytes, object] = {}
        self._expiries: list[tuple[int, bytes]] = []
        self._touched: set[str] = set()

    def take(self, frame: Frame) -> None:
        course = self.course
        if frame.position != course.position + 1:
            raise ValueError(f"frame {frame.position} comes after frame {course.position}")
        batch = decode(frame.payload)
        course.position = position = frame.position
        course.digests.append(frame.digest)
        course.time_us = max(course.time_us + 1, min(batch.time_us, _TIME_US_MAX))
        rules, time_ms = self._rules, course.time_us // 1000
        expired = self._expire(rules.expired_postings_per_frame_max)
        self._horizon = max(self._horizon, _floor_of(time_ms - rules.retention_ms))
        ahead = _floor_of(time_ms + rules.id_ahead_ms_max + 1)
        outcomes = bytearray()
        item = 0
        for command in batch.commands:
            outcome, is_new = self._decide(command, item, ahead)
            outcomes.append(outcome)
            item += is_new
        course.commands += len(batch.commands)
        for name in self._touched:
            account, totals = course.accounts[name], self._accounts[name].totals()
            if totals != (account.totals[-1] if account.totals else Totals()):
                account.positions.append(position)
                account.totals.append(totals)
        self._touched.clear()
        chain = b"%b%d,%d,%d:%b" % (course.outcomes[-1], position, course.time_us, expired, bytes(outcomes))
        course.outcomes.append(sha256(chain).digest())

    def _expire(self, postings_max: int) -> int:
        """Give back what is held by the holds whose time has come; returns how many."""
        expired, course = 0, self.course
        while self._expiries and self._expiries[0][0] <= course.time_us and postings_max > 0:
            _, id = heapq.heappop(self._expiries)
            hold = course.holds[id]
            if hold.ended is None:
                postings_max -= len(hold.remaining)
                self._end(hold, Outcome.hold_expired)
                expired += 1
        return expired

    def _decide(self, command: Command, item: int, ahead: bytes) -> tuple[Outcome, bool]:
        """Decide a command; returns the outcome, and whether it is one more of the transactions of its frame."""
        match command:
            case OpenAccount():
                return self._open_account(command), False
            case RegisterAsset():
                return self._register(command.asset), False
            case Activate():
                return self._activate(command.rules), False
        id, course = command.id, self.course
        if id < self._horizon or id >= ahead:
            outcome = Outcome.id_expired if id < self._horizon else Outcome.id_in_future
            course.traceless[id].append((course.position, outcome.name))
            return outcome, False
        content = _content(command)
        known = course.decisions.get(id)
        if known is not None:
            if self._contents[id] == content:
                course.found_again[id].append(course.position)
                return Outcome[known.outcome], False
            course.reused[id].append(course.position)
            return Outcome.id_reused, False
        match command:
            case PostOne():
                postings = (Posting(command.source, command.destination, command.amount),)
                outcome = self._move_all(postings, held=False) or Outcome.posted
            case Post():
                outcome = self._move_all(command.postings, held=False) or Outcome.posted
            case Hold():
                outcome = self._hold(command)
            case Settle():
                outcome = self._settle(command)
            case Release():
                outcome = self._release(command)
            case _:
                outcome = self._change(command)
        is_transaction = type(command) is not ChangeAccount
        kind = _KINDS[type(command)]
        self._contents[id] = content
        course.decisions[id] = Decision(
            id, course.position, item if is_transaction else -1, kind, outcome.name, command
        )
        return outcome, is_transaction

    # --- money

    def _move_all(self, postings: tuple[Posting, ...], *, held: bool) -> Outcome | None:
        if not postings or any(not 0 < each.amount <= AMOUNT_MAX for each in postings):
            return Outcome.malformed
        for done, posting in enumerate(postings):
            refusal = self._refuse(posting, held=held)
            if refusal is not None:
                for undone in postings[:done]:
                    self._move(undone, -1, held=held)
                return refusal
            self._move(posting, 1, held=held)
        return None

    def _refuse(self, posting: Posting, *, held: bool) -> Outcome | None:
        if posting.source == posting.destination:
            return Outcome.same_account
        source, destination = self._accounts.get(posting.source), self._accounts.get(posting.destination)
        if source is None or destination is None:
            return Outcome.account_unknown
        if (refusal := _refuse_status(source, destination)) is not None:
            return refusal
        if source.asset != destination.asset:
            return Outcome.asset_mismatch
        amount = posting.amount
        available = source.credits - source.debits - source.held_debits
        if source.floor is not None and available - amount < source.floor:
            return Outcome.insufficient_funds
        coming = destination.credits - destination.debits + destination.held_credits
        if destination.ceiling is not None and coming + amount > destination.ceiling:
            return Outcome.balance_limit_exceeded
        out, into = (source.held_debits, destination.held_credits) if held else (source.debits, destination.credits)
        return Outcome.total_overflow if max(out, into) + amount > AMOUNT_MAX else None

    def _move(self, posting: Posting, sign: int, *, held: bool) -> None:
        source, destination = self._accounts[posting.source], self._accounts[posting.destination]
        amount = sign * posting.amount
        if held:
            source.held_debits += amount
            destination.held_credits += amount
        else:
            source.debits += amount
            destination.credits += amount
        self._touched.update((posting.source, posting.destination))

    # --- holds

    def _hold(self, command: Hold) -> Outcome:
        if command.timeout_us is not None and not 0 < command.timeout_us < _TIMEOUT_US_MAX:
            return Outcome.malformed
        if (refusal := self._move_all(command.postings, held=True)) is not None:
            return refusal
        remaining: dict[tuple[str, str], int] = {}
        for each in command.postings:
            between = each.source, each.destination
            remaining[between] = remaining.get(between, 0) + each.amount
        expires_us = None if command.timeout_us is None else self.course.time_us + command.timeout_us
        self.course.holds[command.id] = HoldCourse(remaining, sum(remaining.values()), expires_us)
        if expires_us is not None:
            heapq.heappush(self._expiries, (expires_us, command.id))
        return Outcome.held

    def _settle(self, command: Settle) -> Outcome:
        found = self._open_hold(command.hold)
        if isinstance(found, Outcome):
            return found
        if any(not 0 < each.amount <= AMOUNT_MAX for each in command.postings):
            return Outcome.malformed
        wanted: dict[tuple[str, str], int] = {}
        for each in command.postings:
            between = each.source, each.destination
            wanted[between] = wanted.get(between, 0) + each.amount
        wanted = wanted or dict(found.remaining)
        if any(amount > found.remaining.get(between, 0) for between, amount in wanted.items()):
            return Outcome.hold_exceeded
        for source, destination in wanted:
            refusal = _refuse_status(self._accounts[source], self._accounts[destination])
            if refusal is not None:
                return refusal
        if self._would_overflow(wanted):
            return Outcome.total_overflow
        if not command.postings:
            self.course.rests[command.id] = _postings(wanted)
        for (source, destination), amount in wanted.items():
            self._move(Posting(source, destination, amount), -1, held=True)
            self._move(Posting(source, destination, amount), 1, held=False)
            found.remaining[source, destination] -= amount
            if not found.remaining[source, destination]:
                del found.remaining[source, destination]
        if command.final or not found.remaining:
            self.course.rests.setdefault(command.id, _postings(found.remaining))
            self._end(found, Outcome.settled)
        return Outcome.settled

    def _would_overflow(self, wanted: dict[tuple[str, str], int]) -> bool:
        out: dict[str, int] = defaultdict(int)
        into: dict[str, int] = defaultdict(int)
        for (source, destination), amount in wanted.items():
            out[source] += amount
            into[destination] += amount
        return any(self._accounts[name].debits + amount > AMOUNT_MAX for name, amount in out.items()) or any(
            self._accounts[name].credits + amount > AMOUNT_MAX for name, amount in into.items()
        )

    def _release(self, command: Release) -> Outcome:
        found = self._open_hold(command.hold)
        if isinstance(found, Outcome):
            return found
        self.course.rests[command.id] = _postings(found.remaining)
        self._end(found, Outcome.released)
        return Outcome.released

    def _open_hold(self, id: bytes) -> HoldCourse | Outcome:
        hold = self.course.holds.get(id)
        if hold is None:
            return Outcome.hold_unknown
        match hold.ended:
            case Outcome.settled:
                return Outcome.hold_already_settled
            case Outcome.released:
                return Outcome.hold_already_released
            case Outcome.hold_expired:
                return Outcome.hold_expired
        if hold.expires_us is not None and hold.expires_us <= self.course.time_us:
            return Outcome.hold_expired
        return hold

    def _end(self, hold: HoldCourse, how: Outcome) -> None:
        for posting in _postings(hold.remaining):
            self._move(posting, -1, held=True)
        hold.remaining, hold.ended = {}, how

    # --- assets, accounts, rules

    def _register(self, asset: str) -> Outcome:
        code, slash, scale = asset.partition("/")
        if not code or not slash or not scale.isascii() or not scale.isdigit():
            return Outcome.malformed
        return Outcome.done if self._assets.setdefault(code, asset) == asset else Outcome.asset_exists

    def _open_account(self, command: OpenAccount) -> Outcome:
        known = self._accounts.get(command.account)
        if known is not None:
            return Outcome.done if known.opening == command else Outcome.account_exists
        if not command.account:
            return Outcome.malformed
        if self._assets.get(command.asset.partition("/")[0]) != command.asset:
            return Outcome.asset_unknown
        account = _Account(command.asset, command, command.min_balance, command.max_balance)
        if (refusal := _refuse_limits(account, command.min_balance, command.max_balance)) is not None:
            return refusal
        position = self.course.position
        self._accounts[command.account] = account
        self.course.accounts[command.account] = AccountCourse(
            command.asset, position, [(position, account.floor, account.ceiling)]
        )
        return Outcome.done

    def _change(self, command: ChangeAccount) -> Outcome:
        account = self._accounts.get(command.account)
        if account is None:
            return Outcome.account_unknown
        if account.status == _CLOSED:
            return Outcome.account_closed
        is_empty = account.credits == account.debits and not account.held_debits and not account.held_credits
        if command.status == _CLOSED and not is_empty:
            return Outcome.account_not_empty
        if command.limits is not None:
            if (refusal := _refuse_limits(account, *command.limits)) is not None:
                return refusal
            account.floor, account.ceiling = command.limits
            self.course.accounts[command.account].floors.append((self.course.position, *command.limits))
        if command.status is not None:
            account.status = command.status
        return Outcome.done

    def _activate(self, version: int) -> Outcome:
        if version <= self._rules.version:
            return Outcome.rules_not_newer
        if version not in RULES:
            raise ValueError(f"frame {self.course.position} activates rules {version}, which are not known here")
        self._rules = RULES[version]
        return Outcome.done


def _postings(amounts: dict[tuple[str, str], int]) -> tuple[Posting, ...]:
    return tuple(Posting(source, destination, amount) for (source, destination), amount in amounts.items())


def _refuse_status(source: _Account, destination: _Account) -> Outcome | None:
    statuses = source.status, destination.status
    if statuses == (_OPEN, _OPEN):
        return None
    return Outcome.account_closed if _CLOSED in statuses else Outcome.account_frozen


def _refuse_limits(account: _Account, floor: int | None, ceiling: int | None) -> Outcome | None:
    if any(limit is not None and abs(limit) > AMOUNT_MAX for limit in (floor, ceiling)):
        return Outcome.malformed
    return None if account.is_within(floor, ceiling) else Outcome.limits_conflict


def _content(command: Command) -> object:
    """What a command says beside its id; the short form of a transaction says the same as the long one."""
    match command:
        case PostOne(source=source, destination=destination, amount=amount):
            return ("post", (Posting(source, destination, amount),), None, None, None)
        case Post():
            return ("post", command.postings, command.effective_date, command.reference, command.metadata)
    fields = command.__struct_fields__
    return (type(command).__name__, *(getattr(command, name) for name in fields if name != "id"))


def _floor_of(time_ms: int) -> bytes:
    """The lowest id of a time."""
    return max(0, min(time_ms, 2**48 - 1)).to_bytes(6, "big") + bytes(10)
