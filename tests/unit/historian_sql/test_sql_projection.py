"""A life of the ledger, projected into SQLite, is told as it was: by both versions, whatever happened in it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from fivenines.historian.sql import VERSIONS, HistoryMovedError, Projector, Queries, install, open_engine
from tests.unit.historian_sql.lives import check_everything, everything, live, project


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine(f"sqlite:///{tmp_path / 'history.db'}")
    yield engine
    engine.dispose()


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("seed", range(4))
def test_a_projection_tells_a_life_as_it_was(engine: Engine, version: int, seed: int) -> None:
    life = live(seed)
    project(engine, version, life.steps)
    check_everything(engine, version, life)


def test_the_size_of_batches_changes_no_row(engine: Engine, tmp_path: Path) -> None:
    life = live(11)
    project(engine, 2, life.steps, batch=1)
    other = open_engine(f"sqlite:///{tmp_path / 'other.db'}")
    project(other, 2, life.steps, batch=len(life.steps))
    assert everything(engine, 2) == everything(other, 2)
    other.dispose()


def test_a_projector_that_begins_anew_goes_on_where_the_last_one_was(engine: Engine) -> None:
    life = live(12)
    for step in life.steps:
        projector = Projector(engine, 2)
        assert projector.position == step.frame.position - 1
        projector.project([step])
        assert projector.frame_digest == step.frame.digest
    check_everything(engine, 2, life)


def test_steps_that_are_stored_already_are_passed_over(engine: Engine) -> None:
    life = live(13)
    projector = project(engine, 1, life.steps[:20])
    before = everything(engine, 1)
    projector.project(life.steps[:20])
    assert everything(engine, 1) == before
    projector.project(life.steps)
    check_everything(engine, 1, life)


def test_of_two_projectors_the_one_that_is_late_writes_nothing(engine: Engine) -> None:
    life = live(14)
    late, early = Projector(engine, 1), Projector(engine, 1)
    early.project(life.steps[:5])
    with pytest.raises(HistoryMovedError):
        late.project(life.steps[:3])
    assert late.position == 5
    late.project(life.steps[5:])
    check_everything(engine, 1, life)


def test_steps_with_a_gap_or_of_another_journal_are_refused(engine: Engine) -> None:
    life, other = live(15), live(16)
    projector = project(engine, 1, life.steps[:5])
    before = everything(engine, 1)
    with pytest.raises(HistoryMovedError, match="missing"):
        projector.project(life.steps[6:8])
    with pytest.raises(HistoryMovedError, match="another frame"):
        projector.project(other.steps[4:8])
    assert everything(engine, 1) == before


def test_the_first_projection_is_active_at_once_and_a_second_one_is_not(engine: Engine) -> None:
    assert install(engine, 1).status == "active"
    assert install(engine, 2).status == "building"
    assert install(engine, 1).status == "active"
    assert Queries(engine).position() == 0
