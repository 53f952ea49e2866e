"""The real feed and the real tables of all that a ledger can decide are read as they are, and found to be right."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import update

from fivenines import api
from fivenines.drill.checker.case import Case
from fivenines.drill.checker.evidence import Evidence, FeedSaid, Told
from fivenines.drill.checker.gathering import _Event, _told, read_sql
from fivenines.drill.checker.rules.histories import differing_histories
from fivenines.historian.sql import open_engine
from fivenines.historian.sql.schema import VERSIONS, tables_of
from tests.property.checker.test_course_against_ledger import frames_of
from tests.unit.historian_sql.lives import Life, live, project

SEEDS = range(4)


def heard(event: api.Event) -> Told:
    """What the checker makes of an event as it comes over the wire."""
    return _told(msgspec.json.decode(msgspec.json.encode(event), type=_Event, strict=False))


def case_of(life: Life, evidence: Evidence) -> Case:
    return Case(replace(evidence, frames=frames_of([step.batch for step in life.steps])))


@pytest.mark.parametrize("seed", SEEDS)
def test_every_event_is_what_the_journal_says(seed: int) -> None:
    life = live(seed)
    feed = FeedSaid(position=len(life.steps), events=[heard(each) for each in life.events])
    assert {each.kind for each in feed.events} == {"post", "hold", "settle", "release"}
    assert not list(differing_histories(case_of(life, Evidence(asked=[], frames=[], feeds={"a": feed}))))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", SEEDS)
def test_every_row_is_what_the_journal_says(seed: int, version: int, tmp_path: Path) -> None:
    life, url = live(seed), f"sqlite:///{tmp_path / 'history.db'}"
    project(open_engine(url), version, life.steps)
    said = read_sql(url)
    effects = {effect for told in said.transactions for effect, *_ in told.effects or ()}
    assert effects >= {"post", "hold", "settle", "give_back", "refused"}
    assert not list(differing_histories(case_of(life, Evidence(asked=[], frames=[], sql={"sql": said}))))


@pytest.mark.parametrize("effect", ["post", "hold", "settle", "settle_rest", "give_back", "refused"])
@pytest.mark.parametrize("column", ["amount", "source", "effect"])
def test_a_row_that_was_changed_is_found(effect: str, column: str, tmp_path: Path) -> None:
    life, url = live(1), f"sqlite:///{tmp_path / 'history.db'}"
    project(engine := open_engine(url), 2, life.steps)
    postings = tables_of(2).postings
    changed = {"amount": 12_345, "source": "nobody", "effect": "post" if effect != "post" else "hold"}[column]
    with engine.begin() as connection:
        connection.execute(
            update(postings).where(postings.c.effect == effect, postings.c.item >= 0).values({column: changed})
        )
    found = list(differing_histories(case_of(life, Evidence(asked=[], frames=[], sql={"sql": read_sql(url)}))))
    assert found
    assert {each.kind for each in found} == {"history differs"}
