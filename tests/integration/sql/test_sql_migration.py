"""From version 1 of the history to version 2 and back, while it is written and asked all the time."""

import threading
from collections import Counter
from random import Random
from typing import Self

import pytest
from sqlalchemy import Engine, delete, select, update

from fivenines.historian.sql import (
    NotSwitchableError,
    Projector,
    Queries,
    build,
    compare,
    project_all,
    projections,
    projectors,
    retire,
    switch,
)
from fivenines.historian.sql.reading import Reading
from fivenines.historian.sql.schema import tables_of
from tests.unit.historian_sql.lives import Life, check_everything, live, project

ASKERS = 3
ANSWERS_PER_PHASE = 5


class Askers:
    """Threads that ask all the time, and hold each answer against what was true at its position."""

    def __init__(self, engine: Engine, life: Life) -> None:
        self._queries = Queries(engine)
        self._life = life
        self._is_over = False
        self._answered = Counter[int]()
        self._news = threading.Condition()
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(ASKERS)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over = True
        for thread in self._threads:
            thread.join()

    def see(self) -> None:
        """Wait until each thread has asked several times more, or one has failed."""
        with self._news:
            before = self._answered.copy()
            assert self._news.wait_for(
                lambda: self.failures or all(self._answered[n] >= before[n] + ANSWERS_PER_PHASE for n in range(ASKERS)),
                timeout=120,
            )
        assert self.failures == []

    def _ask(self, number: int) -> None:
        random = Random(number)
        position = 0
        try:
            while not self._is_over:
                position = self._ask_once(random, position)
                with self._news:
                    self._answered[number] += 1
                    self._news.notify_all()
        except BaseException as error:
            with self._news:
                self.failures.append(error)
                self._news.notify_all()
            raise

    def _ask_once(self, random: Random, position: int) -> int:
        queries, life = self._queries, self._life
        account = random.choice(["alice", "bob", "bank", "world"])
        answer = queries.account_history(account, limit=5)
        touched = [cursor for cursor in life.touched[account] if cursor.position <= answer.position]
        assert answer.position >= position
        assert answer.content is not None
        assert [t.position for t in answer.content.transactions] == [c.position for c in reversed(touched[-5:])]

        balance = queries.balance_as_of(account)
        assert balance.content is not None
        debits, credits, _, held_credits = life.totals[balance.position][account]
        assert int(balance.content.balance) == credits - debits
        assert int(balance.content.held_credits) == held_credits

        earlier = random.randint(1, balance.position)
        then = queries.balance_as_of(account, position=earlier)
        assert then.content is not None
        debits, credits, _, _ = life.totals[earlier][account]
        assert int(then.content.balance) == credits - debits

        events, after = queries.events_after(earlier, 10)
        assert events == [event for event in life.events if earlier < event.data.position <= after]
        return then.position


def test_a_migration_under_load_fails_no_query_and_shows_no_half(engine: Engine) -> None:
    life = live(200, frames=80, commands=8)
    steps = life.steps
    project(engine, 1, steps[:30])
    with Askers(engine, life) as askers:
        askers.see()
        # The new version is built from the journal's history while the old one serves, and goes on.
        build(engine, 2, steps[:20])
        Projector(engine, 1).project(steps[30:40])
        with pytest.raises(NotSwitchableError, match="compare"):
            switch(engine, 2)
        askers.see()
        build(engine, 2, steps[20:35])
        uneven = compare(engine, 1, 2)
        assert uneven.is_equal, uneven.differences
        assert uneven.position == 35
        with pytest.raises(NotSwitchableError, match="behind"):
            switch(engine, 2)
        both = projectors(engine)
        project_all(both, steps[35:45])
        result = compare(engine, 1, 2)
        assert result.is_equal, result.differences
        assert result.position == 45
        assert result.accounts == len(life.totals[45])
        assert result.samples > 50
        askers.see()

        switch(engine, 2)
        assert [(p.version, p.status) for p in projections(engine)] == [(1, "ready"), (2, "active")]
        askers.see()
        # Both go on, so the way back is open, and the way forth again.
        for start in range(45, 65):
            project_all(both, steps[start : start + 1])
            if start % 2:
                switch(engine, 1)
            else:
                switch(engine, 2)
        switch(engine, 1)
        askers.see()
        switch(engine, 2)
        with pytest.raises(NotSwitchableError, match="active"):
            retire(engine, 2)
        askers.see()
        retire(engine, 1)
        askers.see()
        with pytest.raises(NotSwitchableError):
            switch(engine, 1)
        (kept,) = projectors(engine)
        kept.project(steps[65:])
        askers.see()
    assert askers.failures == []
    assert [(p.version, p.status) for p in projections(engine)] == [(1, "retired"), (2, "active")]
    check_everything(engine, 2, life)


def test_a_retired_version_can_be_built_anew(engine: Engine) -> None:
    life = live(210, frames=20)
    project(engine, 1, life.steps)
    project(engine, 2, life.steps)
    assert compare(engine, 1, 2).is_equal
    switch(engine, 2)
    retire(engine, 1)
    build(engine, 1, life.steps)
    assert compare(engine, 2, 1).is_equal
    switch(engine, 1)
    check_everything(engine, 1, life)


def test_a_query_that_meets_a_retired_version_asks_the_one_that_is_active_now(engine: Engine) -> None:
    life = live(220, frames=20)
    project(engine, 1, life.steps)
    project(engine, 2, life.steps)
    assert compare(engine, 1, 2).is_equal
    queries = Queries(engine)
    asked: list[int] = []

    def read(reading: Reading) -> int:
        asked.append(reading.tables.version)
        if asked == [1]:  # it was looked up which version is active, and now that version goes away
            switch(engine, 2)
            retire(engine, 1)
        return len(reading.connection.execute(select(reading.tables.frames)).all())

    assert queries._answer(read).content == 20
    # SQLite shows the tables as they were when the read began; PostgreSQL has dropped them, and the query begins anew.
    assert asked == ([1] if engine.dialect.name == "sqlite" else [1, 2])


@pytest.mark.parametrize(
    ("what", "damage"),
    [
        ("rows of postings", lambda t: delete(t.postings).where(t.postings.c.position == 15)),
        ("moved of", lambda t: update(t.postings).values(amount=t.postings.c.amount + 1)),
        ("totals of", lambda t: update(t.balances).where(t.balances.c.account == "bob").values(credits=2**100)),
        ("account", lambda t: update(t.accounts).values(status="frozen").where(t.accounts.c.id == "bob")),
        ("holds that are", lambda t: update(t.holds).values(state="lost")),
        ("transaction ", lambda t: update(t.transactions).values(reference="other")),
        ("transaction", lambda t: update(t.transactions).values(kind="release", hold=bytes(16))),
        ("rows of frames", lambda t: delete(t.frames).where(t.frames.c.position == 3)),
        ("rows of tags", lambda t: t.tags.insert().values(tag=bytes(16), position=3, item=0)),
    ],
)
def test_a_projection_that_differs_is_found_and_not_switched_to(engine: Engine, what: str, damage: object) -> None:
    life = live(230, frames=20)
    project(engine, 1, life.steps)
    project(engine, 2, life.steps)
    assert callable(damage)
    with engine.execution_options(writes=True).begin() as connection:
        assert connection.execute(damage(tables_of(2))).rowcount
    result = compare(engine, 1, 2)
    assert [difference for difference in result.differences if difference.startswith(what)]
    with pytest.raises(NotSwitchableError):
        switch(engine, 2)
