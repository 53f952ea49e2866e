"""History under load, as a minute of what `make history` does for ten: everything that keeps it is killed."""

import asyncio
from pathlib import Path

import pytest

from fivenines.drill.history import HistoryDrill, Outcomes, judge_archive, run_drill
from fivenines.drill.object_store import seaweedfs_program
from fivenines.historian.follower import Follower
from fivenines.journal.archive import open_store
from fivenines.journal.format import DIGEST_NONE
from fivenines.ledger import Outcome, PostOne, State, decode
from tests.integration.archive.lives import archive_life, make_life
from tests.integration.etcd.clusters import need_etcd

pytestmark = pytest.mark.alone


@pytest.mark.long
@pytest.mark.crash
def test_what_keeps_history_is_killed_and_nothing_is_lost(tmp_path: Path, crash_factor: int) -> None:
    need_etcd()
    assert seaweedfs_program()
    told: list[str] = []
    folder = tmp_path / "history"
    drill = HistoryDrill(seconds=60.0 * crash_factor, requests_per_s=40.0, folder=folder, seed=crash_factor)
    done: Outcomes = asyncio.run(run_drill(drill, told=told.append))
    facts = done.facts()
    assert done.problems == []
    assert done.is_good
    assert (done.failed, done.lost, done.otherwise) == (0, 0, 0)
    assert len(done.answers) == int(drill.seconds * drill.requests_per_s) * 50
    assert len(done.kills) >= 3
    assert set(done.sql.values()) == {len(done.answers)}
    assert len(done.sql) == 3
    assert len(done.heard) == len(done.answers)
    assert len(done.archives) == 3
    assert all(each["equal"] and each["segments"] and each["snapshots"] for each in facts["archives"].values())
    assert 0 < facts["tail_mib_max"] <= 2 * drill.tail_mib
    assert len(done.calm_s) > 100 < len(done.disturbed_s)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda done: done.answers.update({b"\x01" * 16: "posted"}), "lost"),
        (lambda done: done.answers.update({next(iter(done.answers)): "insufficient_funds"}), "otherwise"),
    ],
)
def test_the_drill_tells_what_it_is_there_to_tell(tmp_path: Path, spoil: object, says: str) -> None:
    """The judge on an archive of its own, with an answer that nobody gave."""
    life = make_life(tmp_path, frames=30)
    archive_life(open_store(str(tmp_path / "archive")), life)
    done = Outcomes()
    follower = Follower(State(), DIGEST_NONE)
    follower.replay(life.frames)
    for frame in life.frames:
        for command in decode(frame.payload).commands:
            if isinstance(command, PostOne) and (known := follower.state.decision(command.id)) is not None:
                done.answers[command.id] = Outcome(known.outcome).name
    judge_archive(str(tmp_path / "archive"), tmp_path, done)
    assert (done.lost, done.otherwise) == (0, 0)
    assert callable(spoil)
    spoil(done)
    judge_archive(str(tmp_path / "archive"), tmp_path, done)
    assert {"lost": done.lost, "otherwise": done.otherwise}[says] == 1
    assert not done.is_good
