"""The ledger once more, written to be obviously right: the judge of the real one.

It follows the words of the design and keeps nothing that could be worked out: what is held is added up from the open
holds whenever somebody asks, a transaction is tried on a copy of the books, and a content is compared whole instead of
by a fingerprint. It is slow and does not care. It forgets nothing: what an id older than the retention window is told
does not depend on memory.
"""

import copy
from dataclasses import dataclass, field
from typing import Any

from fivenines.ledger import (
    Activate,
    Batch,
    ChangeAccount,
    Command,
    Hold,
    OpenAccount,
    Outcome,
    Post,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
)

LARGEST = 2**127 - 1
WINDOW_MS = 30 * 24 * 60 * 60 * 1000
AHEAD_MS = 5 * 60 * 1000
RULES_KNOWN = {1}
OPEN, FROZEN, CLOSED = 0, 1, 2


@dataclass
class Book:
    """An account."""

    asset: str
    lowest: int | None
    highest: int | None
    metadata: bytes | None
    opened_with: tuple[object, ...]
    status: int = OPEN
    debits: int = 0
    credits: int = 0


@dataclass
class Reserved:
    """An open hold: `[source, destination, amount left]` for each of its postings."""

    left: list[list[Any]]
    expires_us: int | None


@dataclass
class Model:
    time_us: int = 0
    rules: int = 1
    assets: dict[str, str] = field(default_factory=dict)
    books: dict[str, Book] = field(default_factory=dict)
    holds: dict[bytes, Reserved] = field(default_factory=dict)
    ended: dict[bytes, Outcome] = field(default_factory=dict)
    answers: dict[bytes, tuple[object, Outcome]] = field(default_factory=dict)

    # --- what can be worked out

    def held_debits(self, account: str) -> int:
        return sum(left for hold in self.holds.values() for source, _, left in hold.left if source == account)

    def held_credits(self, account: str) -> int:
        return sum(left for hold in self.holds.values() for _, target, left in hold.left if target == account)

    def balance(self, account: str) -> int:
        return self.books[account].credits - self.books[account].debits

    def available(self, account: str) -> int:
        return self.balance(account) - self.held_debits(account)

    def is_too_low(self, account: str) -> bool:
        lowest = self.books[account].lowest
        return lowest is not None and self.available(account) < lowest

    def is_too_high(self, account: str) -> bool:
        highest = self.books[account].highest
        return highest is not None and self.balance(account) + self.held_credits(account) > highest

    def has_overflow(self, account: str) -> bool:
        book = self.books[account]
        totals = (book.debits, book.credits, self.held_debits(account), self.held_credits(account))
        return max(totals) > LARGEST

    # --- a frame

    def apply(self, batch: Batch) -> tuple[list[Outcome], list[bytes]]:
        """Apply a frame; return the outcomes, and the holds that expired before."""
        self.time_us = max(self.time_us + 1, batch.time_us)
        due = sorted(
            (hold.expires_us, id)
            for id, hold in self.holds.items()
            if hold.expires_us is not None and hold.expires_us <= self.time_us
        )
        for _, id in due:
            self.end(id, Outcome.hold_expired)
        return [self.answer(command) for command in batch.commands], [id for _, id in due]

    def end(self, id: bytes, how: Outcome) -> None:
        del self.holds[id]
        self.ended[id] = how

    def answer(self, command: Command) -> Outcome:
        if isinstance(command, RegisterAsset):
            return self.register(command)
        if isinstance(command, OpenAccount):
            return self.open(command)
        if isinstance(command, Activate):
            if command.rules <= self.rules:
                return Outcome.rules_not_newer
            self.rules = command.rules
            return Outcome.done
        id_ms, now_ms = int.from_bytes(command.id[:6], "big"), self.time_us // 1000
        if id_ms < now_ms - WINDOW_MS:
            return Outcome.id_expired
        if id_ms > now_ms + AHEAD_MS:
            return Outcome.id_in_future
        content = content_of(command)
        if command.id in self.answers:
            known_content, known_outcome = self.answers[command.id]
            return known_outcome if known_content == content else Outcome.id_reused
        outcome = self.carry_out(command)
        self.answers[command.id] = content, outcome
        return outcome

    def carry_out(self, command: PostOne | Post | Hold | Settle | Release | ChangeAccount) -> Outcome:
        """Carry a command out that was not decided before, whole or not at all."""
        before = copy.deepcopy((self.books, self.holds, self.ended))
        outcome: Outcome
        match command:
            case PostOne():
                outcome = self.post([(command.source, command.destination, command.amount)])
            case Post():
                outcome = self.post([(p.source, p.destination, p.amount) for p in command.postings])
            case Hold():
                outcome = self.hold(command)
            case Settle():
                outcome = self.settle(command)
            case Release():
                outcome = self.release(command)
            case ChangeAccount():
                outcome = self.change(command)
        if outcome.is_refusal:
            self.books, self.holds, self.ended = before
        return outcome

    # --- transactions

    def post(self, postings: list[tuple[str, str, int]]) -> Outcome:
        if not postings or not all(0 < amount <= LARGEST for _, _, amount in postings):
            return Outcome.malformed
        for source, destination, amount in postings:
            refusal = self.refuse_accounts(source, destination)
            if refusal:
                return refusal
            self.books[source].debits += amount
            self.books[destination].credits += amount
            refusal = self.refuse_totals(source, destination)
            if refusal:
                return refusal
        return Outcome.posted

    def hold(self, command: Hold) -> Outcome:
        timeout = command.timeout_us
        if timeout is not None and not 0 < timeout < 2**62:
            return Outcome.malformed
        if not command.postings or not all(0 < p.amount <= LARGEST for p in command.postings):
            return Outcome.malformed
        reserved = Reserved([], None if timeout is None else self.time_us + timeout)
        self.holds[command.id] = reserved
        for p in command.postings:
            refusal = self.refuse_accounts(p.source, p.destination)
            if refusal:
                return refusal
            reserved.left.append([p.source, p.destination, p.amount])
            refusal = self.refuse_totals(p.source, p.destination)
            if refusal:
                return refusal
        return Outcome.held

    def refuse_accounts(self, source: str, destination: str) -> Outcome | None:
        if source == destination:
            return Outcome.same_account
        if source not in self.books or destination not in self.books:
            return Outcome.account_unknown
        statuses = {self.books[source].status, self.books[destination].status}
        if CLOSED in statuses:
            return Outcome.account_closed
        if FROZEN in statuses:
            return Outcome.account_frozen
        if self.books[source].asset != self.books[destination].asset:
            return Outcome.asset_mismatch
        return None

    def refuse_totals(self, source: str, destination: str) -> Outcome | None:
        if self.is_too_low(source):
            return Outcome.insufficient_funds
        if self.is_too_high(destination):
            return Outcome.balance_limit_exceeded
        if self.has_overflow(source) or self.has_overflow(destination):
            return Outcome.total_overflow
        return None

    def refuse_hold(self, id: bytes) -> Outcome | None:
        if id in self.holds:
            return None
        return {
            None: Outcome.hold_unknown,
            Outcome.settled: Outcome.hold_already_settled,
            Outcome.released: Outcome.hold_already_released,
            Outcome.hold_expired: Outcome.hold_expired,
        }[self.ended.get(id)]

    def settle(self, command: Settle) -> Outcome:
        refusal = self.refuse_hold(command.hold)
        if refusal:
            return refusal
        if not all(0 < p.amount <= LARGEST for p in command.postings):
            return Outcome.malformed
        left = self.holds[command.hold].left
        asked = [(p.source, p.destination, p.amount) for p in command.postings] or [(s, d, n) for s, d, n in left if n]
        for source, destination, amount in asked:
            for row in left:
                if (row[0], row[1]) == (source, destination):
                    taken = min(row[2], amount)
                    row[2] -= taken
                    amount -= taken  # noqa: PLW2901 - what is still to be found in the rows that follow
                    self.books[source].debits += taken
                    self.books[destination].credits += taken
            if amount:
                return Outcome.hold_exceeded
        moved = {account for source, destination, _ in asked for account in (source, destination)}
        if any(self.books[account].status == CLOSED for account in moved):
            return Outcome.account_closed
        if any(self.books[account].status == FROZEN for account in moved):
            return Outcome.account_frozen
        if any(self.has_overflow(account) for account in moved):
            return Outcome.total_overflow
        if command.final or not any(row[2] for row in left):
            self.end(command.hold, Outcome.settled)
        return Outcome.settled

    def release(self, command: Release) -> Outcome:
        refusal = self.refuse_hold(command.hold)
        if refusal:
            return refusal
        self.end(command.hold, Outcome.released)
        return Outcome.released

    # --- assets and accounts

    def register(self, command: RegisterAsset) -> Outcome:
        code, _, scale = command.asset.partition("/")
        if not code or not scale or not all(letter in "0123456789" for letter in scale):
            return Outcome.malformed
        if code in self.assets and self.assets[code] != scale:
            return Outcome.asset_exists
        self.assets[code] = scale
        return Outcome.done

    def open(self, command: OpenAccount) -> Outcome:
        content = (command.asset, command.min_balance, command.max_balance, command.metadata)
        known = self.books.get(command.account)
        if known is not None:
            return Outcome.done if known.opened_with == content else Outcome.account_exists
        if not command.account:
            return Outcome.malformed
        if command.asset not in {f"{code}/{scale}" for code, scale in self.assets.items()}:
            return Outcome.asset_unknown
        if not limits_are_representable(command.min_balance, command.max_balance):
            return Outcome.malformed
        book = Book(command.asset, command.min_balance, command.max_balance, command.metadata, content)
        self.books[command.account] = book
        if self.is_too_low(command.account) or self.is_too_high(command.account):
            del self.books[command.account]
            return Outcome.limits_conflict
        return Outcome.done

    def change(self, command: ChangeAccount) -> Outcome:
        account = command.account
        book = self.books.get(account)
        if book is None:
            return Outcome.account_unknown
        if book.status == CLOSED:
            return Outcome.account_closed
        is_empty = not (self.balance(account) or self.held_debits(account) or self.held_credits(account))
        if command.status == CLOSED and not is_empty:
            return Outcome.account_not_empty
        if command.limits is not None:
            if not limits_are_representable(*command.limits):
                return Outcome.malformed
            book.lowest, book.highest = command.limits
            if self.is_too_low(account) or self.is_too_high(account):
                return Outcome.limits_conflict
        if command.status is not None:
            book.status = command.status
        if command.metadata is not None:
            book.metadata = command.metadata
        return Outcome.done


def content_of(command: PostOne | Post | Hold | Settle | Release | ChangeAccount) -> object:
    """What a command says, whatever its form: one posting in the short form is one posting in the long."""
    if isinstance(command, PostOne):
        return "Post", ((command.source, command.destination, command.amount),), None, None, None
    said: list[object] = [type(command).__name__]
    for name in command.__struct_fields__:
        value = getattr(command, name)
        if name == "postings":
            said.append(tuple((p.source, p.destination, p.amount) for p in value))
        elif name != "id":
            said.append(value)
    return tuple(said)


def limits_are_representable(*limits: int | None) -> bool:
    return all(limit is None or -LARGEST <= limit <= LARGEST for limit in limits)
