"""Lives of a ledger, and what is true of them, told without SQL: from the state, and by what a node tells."""

import datetime
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, cast

import msgspec
from msgspec import UNSET
from sqlalchemy import Engine, select

from fivenines import api
from fivenines.historian.follower import Follower, Step
from fivenines.historian.sql import Balance, Cursor, Projector, Queries
from fivenines.historian.sql.schema import tables_of
from fivenines.ids import as_text
from fivenines.journal import Frame, Journal
from fivenines.ledger import Batch, Command, Outcome, State, encode
from fivenines.node import history
from tests.property.ledger.long_journals import Journalist

Totals = tuple[int, int, int, int]
WRITER = b"w" * 16
ENDINGS = {"settled": Outcome.settled, "released": Outcome.released, "expired": Outcome.hold_expired}


class _Frames:
    """As much of a journal as a node's history needs."""

    first = 1

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def read(self, start: int) -> Iterator[Frame]:
        return iter(self.frames[start - 1 :])


@dataclass
class Life:
    """Some frames, and what came of them."""

    steps: list[Step] = field(default_factory=list)
    totals: list[dict[str, Totals]] = field(default_factory=lambda: [{}])
    """By position: what each account has."""
    events: list[api.Event] = field(default_factory=list)
    """As a node tells them."""
    touched: dict[str, list[Cursor]] = field(default_factory=dict)
    """By account: the transactions that name or change it."""
    ended: dict[bytes, str] = field(default_factory=dict)
    follower: Follower = field(default_factory=lambda: Follower(State(), bytes(32)))
    _frames: _Frames = field(default_factory=_Frames)
    _about: dict[str, str] = field(default_factory=dict)
    _left: dict[str, dict[tuple[str, str], int]] = field(default_factory=dict)

    @property
    def state(self) -> State:
        return self.follower.state

    def live(self, batch: Batch) -> Step:
        position = len(self.steps) + 1
        payload = encode(batch)
        frame = Frame(position, payload, sha256(self.follower.frame_digest + payload).digest())
        self._frames.frames.append(frame)
        step = self.follower.step(frame)
        self.steps.append(step)
        self.totals.append(
            {a.id: (a.debits, a.credits, a.held_debits, a.held_credits) for a in self.state.accounts.values()}
        )
        journal = cast(Journal, self._frames)
        events, _ = history.events(
            journal, self.state.decision, after=position - 1, last=position, limit=1, source="/v1/events"
        )
        for event in events:
            if event.data.kind == "hold":
                accounts = sorted({account for p in event.data.postings for account in (p.source, p.destination)})
                self._about[event.subject] = ",".join(accounts)
        events = [self._with_accounts(event) for event in events]
        self.events += events
        for id in step.applied.expired:
            self._left.pop(as_text(id))
            self.ended[id] = "expired"
        for event in events:
            self._touch(event)
        return step

    def tell(self, *commands: Command, time_us: int) -> Step:
        return self.live(Batch(WRITER, len(self.steps), time_us, commands))

    def _with_accounts(self, event: api.Event) -> api.Event:
        """Say of a settlement or release what its hold was about.

        A node forgets a hold that is older than its window, and takes one whose id was refused for the real one where
        both are in a frame; the history does neither.
        """
        if event.data.hold is None:
            assert event.accounts is UNSET
            return event
        accounts = self._about.get(event.data.hold, UNSET)
        if accounts is not UNSET and event.accounts is not UNSET:
            assert accounts == event.accounts
        return msgspec.structs.replace(event, accounts=accounts or UNSET)

    def _touch(self, event: api.Event) -> None:
        told = event.data
        accounts = {account for p in told.postings for account in (p.source, p.destination)}
        asked = [(p.source, p.destination, int(p.amount)) for p in told.postings]
        if told.outcome == "held":
            left = self._left[told.id] = {}
            for source, destination, amount in asked:
                left[source, destination] = left.get((source, destination), 0) + amount
        elif told.outcome in {"settled", "released"}:
            left = self._left[told.hold or ""]
            if not asked or told.final:
                accounts |= {account for pair in left for account in pair}
            for source, destination, amount in asked:
                left[source, destination] -= amount
            left = self._left[told.hold or ""] = {pair: amount for pair, amount in left.items() if amount}
            if told.outcome == "released" or told.final or not asked or not left:
                del self._left[told.hold or ""]
                self.ended[bytes.fromhex((told.hold or "").replace("-", ""))] = told.outcome
        cursor = Cursor(*map(int, event.id.split("-")))
        for account in accounts:
            self.touched.setdefault(account, []).append(cursor)


def live(seed: int, *, frames: int = 40, commands: int = 15) -> Life:
    """Live a long journal."""
    life = Life()
    for batch in Journalist(seed).journal(frames=frames, commands=commands):
        life.live(batch)
    return life


def project(engine: Engine, version: int, steps: Sequence[Step], *, batch: int = 7) -> Projector:
    """Project steps, a few frames at a time."""
    projector = Projector(engine, version)
    for start in range(0, len(steps), batch):
        projector.project(steps[start : start + batch])
    return projector


def check_accounts(engine: Engine, version: int, state: State) -> None:
    """The accounts are those of the state."""
    accounts = tables_of(version).accounts
    with engine.connect() as connection:
        found = {row.id: tuple(row)[1:6] + tuple(row)[7:] for row in connection.execute(select(accounts))}
    assert found == {
        account.id: (
            account.asset.name,
            account.status.name,
            account.min_balance,
            account.ceiling,
            None if account.metadata is None else account.metadata.decode(),
            account.debits,
            account.credits,
            account.held_debits,
            account.held_credits,
        )
        for account in state.accounts.values()
    }


def check_holds(engine: Engine, version: int, life: Life) -> None:
    """The open holds are those of the state, and the others ended as they did."""
    holds = tables_of(version).holds
    with engine.connect() as connection:
        found = {row.id: row for row in connection.execute(select(holds))}
    assert {id for id, row in found.items() if row.state == "open"} == set(life.state.holds)
    assert {id: row.state for id, row in found.items() if row.state != "open"} == life.ended
    queries = Queries(engine)
    for id in life.state.holds:
        event = next(event for event in life.events if event.subject == as_text(id))
        expected = history.with_hold_state(event.data, life.state, id)
        assert queries.transaction(id).content == expected


def check_balances(queries: Queries, life: Life, positions: Iterable[int]) -> None:
    """The balances as of a position, and as of the time of its frame, are what they were."""
    for position in positions:
        time_us = life.steps[position - 1].applied.time_us
        for account, totals in life.totals[position].items():
            found = queries.balance_as_of(account, position=position).content
            assert found is not None
            assert _totals(found) == totals
            assert found.position == position
            assert found == queries.balance_as_of(account, time_us=time_us).content
        unopened = life.totals[-1].keys() - life.totals[position].keys()
        assert [queries.balance_as_of(account, position=position).content for account in unopened] == [
            None for _ in unopened
        ]


def check_history(queries: Queries, life: Life, *, limit: int) -> None:
    """All pages of each account's history together are what a node tells, the newest first."""
    told = {Cursor(*map(int, event.id.split("-"))): event.data for event in life.events}
    for account in life.state.accounts:
        found: list[api.Transaction] = []
        before = None
        while True:
            page = queries.account_history(account, before=before, limit=limit).content
            assert page is not None
            assert len(page.transactions) <= limit
            found += page.transactions
            if page.next is None:
                break
            assert len(page.transactions) == limit
            before = Cursor.parse(page.next)
            assert before is not None
        assert found == [told[cursor] for cursor in reversed(life.touched.get(account, []))]


def check_events(queries: Queries, life: Life, *, limit: int) -> None:
    """The pages of events together are a node's, and no page ends within a frame."""
    found: list[api.Event] = []
    position = 0
    while position < life.state.position:
        page, after = queries.events_after(position, limit)
        assert after > position
        assert page == [event for event in life.events if position < event.data.position <= after]
        assert len([event for event in page if event.data.position < after]) < limit
        found += page
        position = after
    assert found == life.events
    assert queries.events_after(position, limit) == ([], position)


def check_statements(queries: Queries, life: Life, first: datetime.date, last: datetime.date, *, limit: int) -> None:
    """A statement opens and closes with the balances of its dates, and its lines lead from the one to the other."""
    days = [datetime.datetime.fromtimestamp(s.applied.time_us / 1e6, datetime.UTC).date() for s in life.steps]
    opening = len([day for day in days if day < first])
    closing = len([day for day in days if day <= last])
    for account in life.state.accounts:
        balance = _balance(life, opening, account)
        after = None
        lines = 0
        while True:
            found = queries.statement(account, first, last, after=after, limit=limit).content
            assert found is not None
            assert int(found.opening) == _balance(life, opening, account)
            assert int(found.closing) == _balance(life, closing, account)
            for line in found.lines:
                balance += int(line.amount)
                assert int(line.balance) == balance
                assert first <= days[line.position - 1] <= last
            lines += len(found.lines)
            if found.next is None:
                break
            assert len(found.lines) == limit
            after = _line_cursor(found.next)
        assert balance == int(found.closing)
        moved = [cursor for cursor in life.touched.get(account, []) if opening < cursor.position <= closing]
        assert bool(lines) <= bool(moved)


def check_everything(engine: Engine, version: int, life: Life) -> None:
    """Whatever can be asked of the active projection has the answer that the life gives."""
    check_accounts(engine, version, life.state)
    check_holds(engine, version, life)
    queries = Queries(engine)
    assert queries.position() == life.state.position
    last = life.state.position
    check_balances(queries, life, sorted({1, last // 3, last // 2, last - 1, last}))
    check_history(queries, life, limit=4)
    check_events(queries, life, limit=9)
    first_day = _day(life, 1)
    check_statements(queries, life, first_day, first_day, limit=5)
    check_statements(queries, life, first_day + datetime.timedelta(days=1), _day(life, last), limit=5)
    check_statements(queries, life, datetime.date(1970, 1, 1), datetime.date(9999, 12, 31), limit=100)


def everything(engine: Engine, version: int) -> dict[str, list[Any]]:
    """All rows of a projection but its name."""
    tables = tables_of(version)
    found: dict[str, list[Any]] = {}
    with engine.connect() as connection:
        for table in (
            tables.frames,
            tables.transactions,
            tables.postings,
            tables.accounts,
            tables.holds,
            tables.tags,
            *(() if tables.balances is None else (tables.balances,)),
        ):
            name = table.name.partition("_")[2]
            rows = connection.execute(select(table).order_by(*table.primary_key.columns))
            found[name] = [tuple(row) for row in rows]
    return found


def _totals(balance: Balance) -> Totals:
    assert int(balance.balance) == int(balance.credits) - int(balance.debits)
    assert int(balance.available) == int(balance.balance) - int(balance.held_debits)
    return int(balance.debits), int(balance.credits), int(balance.held_debits), int(balance.held_credits)


def _balance(life: Life, position: int, account: str) -> int:
    debits, credits, _, _ = life.totals[position].get(account, (0, 0, 0, 0))
    return credits - debits


def _day(life: Life, position: int) -> datetime.date:
    return datetime.datetime.fromtimestamp(life.steps[position - 1].applied.time_us / 1e6, datetime.UTC).date()


def _line_cursor(text: str) -> Any:
    from fivenines.historian.sql.answers import LineCursor

    found = LineCursor.parse(text)
    assert found is not None
    return found
