"""Restoring from stores alone: to any position and time, to the digest, or not at all and with the reason."""

import asyncio
from pathlib import Path

import pytest

from fivenines.historian.rebuilding import begin_folder, begin_journal_in, verify_backup
from fivenines.historian.restoring import RestoreError, Target, begin_epoch, next_epoch, restore
from fivenines.historian.settings import ArchiveSettings
from fivenines.historian.tidying import Tidier
from fivenines.journal import FileJournal
from fivenines.journal.archive import (
    Archive,
    ArchiveError,
    SegmentName,
    SnapshotName,
    Store,
    catalogue_of,
    open_store,
    pack_snapshot,
)
from fivenines.ledger import digest
from fivenines.node import recover
from tests.integration.archive.lives import Life, archive_life, make_life

FRAMES = 60


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return make_life(tmp_path_factory.mktemp("life"), frames=FRAMES)


@pytest.fixture
def filled(stores: list[Store], life: Life) -> list[Store]:
    archive_life(stores[0], life, size=7)
    archive_life(stores[1], life, size=11)
    return stores


@pytest.mark.parametrize("position", [1, 7, 19, 20, 21, 39, 40, 41, 59, 60])
def test_any_position_is_restored_to_the_digest(filled: list[Store], life: Life, tmp_path: Path, position: int) -> None:
    found = restore(filled, Target(position=position), tmp_path)
    assert found.state.position == position
    assert found.state_digest == life.digests[position] == digest(found.state)
    assert found.frame_digest == life.frames[position - 1].digest
    assert found.compared == [at for at in (20, 40) if found.begun_at < at <= position]
    assert found.damaged == []


def test_the_latest_is_all_that_is_archived(filled: list[Store], life: Life, tmp_path: Path) -> None:
    found = restore(filled, Target(), tmp_path)
    assert (found.begun_at, found.frames, found.state_digest) == (20, 40, life.digests[FRAMES])
    assert restore(filled, Target(), tmp_path, thorough=True).begun_at == 0


@pytest.mark.parametrize("position", [1, 20, 33, 40, 59])
@pytest.mark.parametrize("late_us", [0, 1, 999_999])
def test_a_time_is_the_last_position_not_later(
    filled: list[Store], life: Life, tmp_path: Path, position: int, late_us: int
) -> None:
    found = restore(filled, Target(time_us=life.times_us[position] + late_us), tmp_path)
    assert (found.state.position, found.state_digest) == (position, life.digests[position])


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        (Target(position=FRAMES + 1), "position 61 cannot be restored: there is no good copy of the frames from 61"),
        (Target(time_us=1), "there was nothing yet"),
    ],
)
def test_what_there_is_not_is_refused(filled: list[Store], tmp_path: Path, target: Target, reason: str) -> None:
    with pytest.raises(ArchiveError, match=reason):
        restore(filled, target, tmp_path)


def test_empty_stores_are_refused(stores: list[Store], tmp_path: Path) -> None:
    with pytest.raises(RestoreError, match="there is no archive in"):
        restore(stores, Target(), tmp_path)


def test_a_bad_snapshot_is_done_without(filled: list[Store], life: Life, tmp_path: Path) -> None:
    for store in filled:
        name = SnapshotName(1, 40, life.times_us[40])
        store.put(str(name), store.get(str(name))[:-9])
    found = restore(filled, Target(), tmp_path)
    assert found.state_digest == life.digests[FRAMES]
    assert [at.count("/") > 0 for at in found.damaged] == [True, True]


def test_a_snapshot_of_another_state_is_found_out(filled: list[Store], life: Life, tmp_path: Path) -> None:
    other = make_life(tmp_path, frames=40, seed=9)
    for store in filled:
        store.delete([str(SnapshotName(1, 40, life.times_us[40]))])
        store.put(str(SnapshotName(1, 40, other.times_us[40])), pack_snapshot(other.files[40]))
    with pytest.raises(RestoreError, match="the state at position 40 is not that of the snapshot there"):
        restore(filled, Target(), tmp_path)


def test_decisions_that_differ_from_those_archived_are_found_out(
    stores: list[Store], life: Life, tmp_path: Path
) -> None:
    wrong = Life(life.frames, life.digests, life.times_us, life.outcomes | {14: b"x" * 32})
    archive_life(stores[0], wrong, size=7)
    with pytest.raises(RestoreError, match="up to position 14 something was decided otherwise"):
        restore(stores, Target(), tmp_path)


def test_one_store_of_two_is_enough(filled: list[Store], life: Life, tmp_path: Path) -> None:
    away = open_store("s3://books?endpoint=http://127.0.0.1:9&region=none")
    found = restore([away, filled[1]], Target(), tmp_path)
    assert found.state_digest == life.digests[FRAMES]
    assert [away.name in each for each in found.damaged] == [True]
    with pytest.raises(ArchiveError, match="cannot list"):
        restore([away], Target(), tmp_path)


def test_frames_that_no_store_has_end_what_can_be_restored(filled: list[Store], life: Life, tmp_path: Path) -> None:
    filled[0].delete([str(SegmentName(1, 22, 28))])
    filled[1].delete([str(SegmentName(1, 23, 33))])
    assert restore(filled, Target(position=22), tmp_path).state_digest == life.digests[22]
    with pytest.raises(RestoreError, match="no good copy of the frames from 23 to 2"):
        restore(filled, Target(position=30), tmp_path)
    found = restore(filled, Target(), tmp_path)  # from the snapshot behind the gap
    assert (found.begun_at, found.state_digest) == (40, life.digests[FRAMES])


def test_a_backup_is_verified_as_a_node_would_start_from_it(filled: list[Store], life: Life, tmp_path: Path) -> None:
    backup = verify_backup(filled, Target(), tmp_path)
    assert backup.restored.compared == [20, 40]
    assert backup.restored.state_digest == life.digests[FRAMES]
    assert verify_backup(filled, Target(position=40), tmp_path, thorough=False).restored.begun_at == 20
    assert list(tmp_path.glob("verify-*")) == []


def test_a_ledger_in_a_folder_goes_on_from_there(filled: list[Store], life: Life, tmp_path: Path) -> None:
    restored = restore(filled, Target(position=33), tmp_path)
    folder = tmp_path / "ledger"
    begin_journal_in(folder, restored)

    async def go_on() -> tuple[int, bytes]:
        journal = FileJournal.open(folder)
        try:
            state = recover(folder, journal).state
            assert digest(state) == life.digests[33]
            return await journal.append(life.frames[33].payload), journal.last_digest
        finally:
            await journal.close()

    assert asyncio.run(go_on()) == (34, life.frames[33].digest)
    with pytest.raises(RestoreError, match="holds a ledger's data already"):
        begin_folder(folder, restored)


def test_a_new_epoch_has_the_old_one_s_history_up_to_where_it_began(
    filled: list[Store], life: Life, tmp_path: Path
) -> None:
    restored = restore(filled, Target(position=33), tmp_path)
    assert next_epoch(filled) == 2
    epoch, failed = begin_epoch(filled, restored, 2)
    assert (epoch.epoch, epoch.parent, epoch.position, failed) == (2, 1, 33, [])
    assert catalogue_of(filled[1]).epochs == [epoch]
    with pytest.raises(ArchiveError, match="there is one already"):
        begin_epoch(filled, restored, 2)
    # Nothing is archived of it, and the old life went further: which one is meant must be said.
    with pytest.raises(RestoreError, match="nothing is archived of it; epoch 1 goes on to 60"):
        restore(filled, Target(), tmp_path)
    again = restore(filled, Target(), tmp_path, epoch=2)
    assert (again.epoch, again.state_digest) == (2, life.digests[33])  # what came after is another life's
    old = restore(filled, Target(), tmp_path, epoch=1)
    assert old.state_digest == life.digests[FRAMES]
    # Another life goes on from 33; its frames are its own.
    other = make_life(tmp_path, frames=FRAMES, seed=3)
    archive_life(filled[0], other, size=9, epoch=2, first=34)
    archive = Archive(filled)
    archive.look()
    assert [part[:2] for part in archive.parts(2)] == [(1, 1), (2, 34)]
    with pytest.raises(ArchiveError, match="frame 34 does not follow"):
        restore(filled, Target(), tmp_path)
    with pytest.raises(ArchiveError, match="does not follow"):
        list(archive.read(2, 1))


def test_a_snapshot_that_came_before_its_frames_is_what_to_begin_with(
    stores: list[Store], life: Life, tmp_path: Path
) -> None:
    archive_life(stores[0], life, size=10, last=30)
    stores[0].put(str(SnapshotName(1, 40, life.times_us[40])), pack_snapshot(life.files[40]))
    for target in (Target(), Target(time_us=life.times_us[40] + 5)):
        found = restore(stores, target, tmp_path)
        assert (found.state.position, found.state_digest) == (40, life.digests[40])
        assert found.is_at_the_end


def test_a_time_past_the_end_is_told(filled: list[Store], life: Life, tmp_path: Path) -> None:
    assert restore(filled, Target(time_us=life.times_us[FRAMES] + 10**9), tmp_path).is_at_the_end
    assert not restore(filled, Target(time_us=life.times_us[FRAMES] - 1), tmp_path).is_at_the_end


def test_what_was_put_together_while_it_is_read_is_found_again(stores: list[Store], life: Life, tmp_path: Path) -> None:
    store = stores[0]
    archive_life(store, life, size=2)
    archive = Archive([store])
    archive.look()
    reading = archive.read(1, 1)
    assert [next(reading).position for _ in range(5)] == [1, 2, 3, 4, 5]
    Tidier([store], [], 1, ArchiveSettings(segment_bytes=64 * 1024)).tidy(store)
    assert [frame.position for frame in reading] == list(range(6, FRAMES + 1))


def test_a_backup_with_a_gap_is_verified_from_behind_it(filled: list[Store], life: Life, tmp_path: Path) -> None:
    filled[0].delete([str(SegmentName(1, 22, 28))])
    filled[1].delete([str(SegmentName(1, 23, 33))])
    backup = verify_backup(filled, Target(), tmp_path)
    assert (backup.restored.begun_at, backup.restored.state_digest) == (40, life.digests[FRAMES])
