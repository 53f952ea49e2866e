"""Stores, folders and S3 alike: what is written is there; what is damaged is told by name and made good."""

from pathlib import Path

import msgspec
import pytest

from fivenines.drill.object_store import S3Server
from fivenines.historian.settings import ArchiveSettings, Retention
from fivenines.historian.spool import Spool
from fivenines.historian.tidying import Tidier, repair_missing
from fivenines.journal.archive import (
    Archive,
    Epoch,
    MissingFramesError,
    ObjectDamagedError,
    OtherJournalError,
    SegmentName,
    SnapshotName,
    Store,
    StoreError,
    StoreUrlError,
    catalogue_of,
    open_store,
    pack_segment,
    read_segment,
)
from tests.integration.archive.lives import Life, archive_life, make_life

FRAMES = 60


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return make_life(tmp_path_factory.mktemp("life"), frames=FRAMES)


def damage(store: Store, name: SegmentName | SnapshotName, how: str) -> None:
    """Do to an object what disks and people do."""
    data = store.get(str(name))
    if how == "missing":
        store.delete([str(name)])
    elif how == "cut short":
        store.put(str(name), data[: len(data) // 2])
    elif how == "empty":
        store.put(str(name), b"")
    elif how == "bit flipped":
        at = len(data) // 2
        store.put(str(name), data[:at] + bytes([data[at] ^ 4]) + data[at + 1 :])
    else:
        assert how == "swapped"
        other = next(
            each
            for each in (*catalogue_of(store).segments, *catalogue_of(store).snapshots)
            if each != name and type(each) is type(name)
        )
        store.put(str(name), store.get(str(other)))


def test_what_is_put_is_there_until_it_is_deleted(stores: list[Store]) -> None:
    store = stores[0]
    store.put("epochs/a/b", b"first")
    store.put("epochs/a/b", b"second")
    store.put("epochs/c", b"")
    assert store.get("epochs/a/b") == b"second"
    assert sorted((each.name, each.bytes) for each in store.list("epochs")) == [("epochs/a/b", 6), ("epochs/c", 0)]
    store.delete(["epochs/a/b", "epochs/never"])
    assert [each.name for each in store.list()] == ["epochs/c"]
    with pytest.raises(ObjectDamagedError, match="epochs/a/b: it is missing"):
        store.get("epochs/a/b")


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("s3://bucket?endpint=x", "no option 'endpint'"),
        ("s3://bucket?env=NOBODYS", "NOBODYS_ACCESS_KEY_ID is not in the environment"),
        ("nothing://bucket", "names no store"),
        ("http://bucket", "names no store"),
        ("file://host/folder", "names no folder"),
        ("/proc/nothing/here", "cannot be made"),
    ],
)
def test_a_url_that_names_no_store_is_refused_with_the_reason(url: str, reason: str) -> None:
    with pytest.raises(StoreUrlError, match=reason):
        open_store(url)


def test_a_server_that_is_away_is_told_and_one_that_is_back_works(tmp_path: Path) -> None:
    server = S3Server(tmp_path, env="AWAY_TEST")
    try:
        server.start()
        store = open_store(server.url())
        store.put("epochs/a", b"kept")
        server.kill()
        with pytest.raises(StoreError, match="cannot write epochs/b"):
            store.put("epochs/b", b"")
        with pytest.raises(StoreError, match="cannot read epochs/a"):
            store.get("epochs/a")
        with pytest.raises(StoreError, match="cannot list"):
            list(store.list())
        server.start()
        assert store.get("epochs/a") == b"kept"
    finally:
        server.kill()


def test_wrong_keys_are_told(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCHIVE_TESTS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(StoreError, match="cannot write epochs/a"):
        open_store(s3.url()).put("epochs/a", b"")


@pytest.mark.parametrize("how", ["missing", "cut short", "empty", "bit flipped", "swapped"])
def test_a_damaged_segment_is_named_done_without_and_repaired(stores: list[Store], life: Life, how: str) -> None:
    one, two = stores
    archive_life(one, life, size=7)
    archive_life(two, life, size=11)  # each region cuts its own
    name = sorted(catalogue_of(one).segments)[3]
    whole = read_segment(one, name)[1]
    damage(one, name, how)
    told: list[str] = []
    archive = Archive(stores, on_damage=lambda error: told.append(error.name))
    archive.look()
    assert list(archive.read(1, 1)) == life.frames
    assert told == ([] if how == "missing" else [str(name)])

    tidier = Tidier(stores, [], 1, ArchiveSettings())
    tidier.scrub(one, sorted(catalogue_of(one).segments))
    # What is missing comes in the pieces in which the other store has it.
    assert (tidier.repaired, tidier.beyond_repair) == (2 if how == "missing" else 1, 0)
    if how != "missing":
        assert read_segment(one, name)[1] == whole
    alone = Archive([one])
    alone.look()
    assert list(alone.read(1, 1)) == life.frames


@pytest.mark.parametrize("how", ["cut short", "bit flipped", "empty"])
def test_a_damaged_snapshot_is_written_anew_from_another_store(stores: list[Store], life: Life, how: str) -> None:
    for store in stores:
        archive_life(store, life)
    name = SnapshotName(1, 20, life.times_us[20])
    whole = stores[1].get(str(name))
    damage(stores[0], name, how)
    tidier = Tidier(stores, [], 1, ArchiveSettings())
    tidier.scrub(stores[0], [name])
    assert (tidier.scrubbed, tidier.repaired) == (1, 1)
    assert stores[0].get(str(name))[-32:] == whole[-32:]


def test_what_no_store_has_a_good_copy_of_is_named_and_refused(stores: list[Store], life: Life) -> None:
    for store in stores:
        archive_life(store, life, size=10)
    name = SegmentName(1, 21, 30)
    damage(stores[0], name, "bit flipped")
    damage(stores[1], name, "cut short")
    archive = Archive(stores)
    archive.look()
    with pytest.raises(MissingFramesError) as caught:
        list(archive.read(1, 1))
    assert caught.value.start == 21
    assert all(store.name in str(caught.value) for store in stores)
    tidier = Tidier(stores, [], 1, ArchiveSettings())
    tidier.scrub(stores[0], sorted(catalogue_of(stores[0]).segments))
    assert (tidier.repaired, tidier.beyond_repair) == (0, 1)
    assert [frame.position for frame in archive.read(1, 31)] == list(range(31, FRAMES + 1))


def test_frames_missing_everywhere_are_told_as_a_gap(stores: list[Store], life: Life) -> None:
    for store in stores:
        archive_life(store, life, size=10)
    stores[0].delete([str(SegmentName(1, 11, 20)), str(SegmentName(1, 21, 30))])
    stores[1].delete([str(SegmentName(1, 21, 30))])
    others = Archive([stores[1]])
    others.look()
    assert repair_missing(stores[0], catalogue_of(stores[0]), 1, others) == (1, [(21, 30)])
    assert SegmentName(1, 11, 20) in catalogue_of(stores[0]).segments


def test_another_journals_frames_do_not_follow(stores: list[Store], life: Life, tmp_path: Path) -> None:
    other = make_life(tmp_path, frames=FRAMES, seed=2)
    archive_life(stores[0], life, last=30)
    archive_life(stores[0], other, size=10, first=31)
    archive = Archive(stores)
    archive.look()
    with pytest.raises(MissingFramesError, match="frame 31 does not follow from the one before it"):
        list(archive.read(1, 1))


def test_small_segments_become_one_and_nothing_is_lost(stores: list[Store], life: Life) -> None:
    store = stores[0]
    archive_life(store, life, size=2)
    settings = ArchiveSettings(segment_bytes=64 * 1024, scrub_s=1.0, tidy_s=1.0)
    tidier = Tidier([store], [], 1, settings)
    tidier.tidy(store)
    found = catalogue_of(store)
    assert (tidier.merged, len(found.segments)) == (30, 1)
    head, frames = read_segment(store, next(iter(found.segments)))
    assert frames == life.frames
    assert head.outcomes_digest == life.outcomes[FRAMES]
    tidier.tidy(store)
    assert (tidier.merged, tidier.beyond_repair) == (30, 0)


def test_a_merge_that_was_cut_short_is_tidied_up(stores: list[Store], life: Life) -> None:
    store = stores[0]
    archive_life(store, life, size=5)
    store.put(str(SegmentName(1, 1, 20)), pack_segment(life.frames[:20], life.before(1)))  # and died before deleting
    Tidier([store], [], 1, ArchiveSettings()).tidy(store)
    first = min(catalogue_of(store).segments)
    assert first.last >= 20
    archive = Archive([store])
    archive.look()
    assert list(archive.read(1, 1)) == life.frames


def test_retention_lets_go_of_what_only_serves_old_positions(stores: list[Store], life: Life) -> None:
    store = stores[0]
    archive_life(store, life, size=5)
    tidier = Tidier([store], [], 1, ArchiveSettings(retention=Retention(keep_s=3_600.0)))  # all of it is old
    tidier.tidy(store)
    found = catalogue_of(store)
    assert [name.position for name in found.snapshots] == [40]
    assert min(name.last for name in found.segments) > 40
    assert max(name.last for name in found.segments) == FRAMES


def test_a_folder_is_written_so_that_a_reader_never_sees_half(stores: list[Store]) -> None:
    store = stores[0]
    if not store.name.startswith("file:"):
        pytest.skip("object stores promise that themselves")
    store.put("epochs/x", b"1" * 1_000_000)
    folder = Path(store.name.removeprefix("file://"))
    assert [path.name for path in (folder / "epochs").iterdir()] == ["x"]


def test_a_torn_object_in_the_spool_is_as_if_it_had_never_been_sealed(life: Life, tmp_path: Path) -> None:
    spool = Spool(open_store(str(tmp_path / "spool")), 1)
    archive_life(spool.store, life, size=10)
    torn = SegmentName(1, 41, 50)
    damage(spool.store, torn, "cut short")
    spool.look()
    assert torn not in spool.waiting
    assert SegmentName(1, 31, 40) in spool.waiting
    assert torn not in catalogue_of(spool.store).segments


def test_nothing_is_deleted_for_the_sake_of_a_long_segment_that_is_torn(life: Life, tmp_path: Path) -> None:
    store = open_store(str(tmp_path))
    archive_life(store, life, size=10)
    store.put(str(SegmentName(1, 1, FRAMES)), b"torn")
    Tidier([store], [], 1, ArchiveSettings()).tidy(store)
    archive = Archive([store])
    archive.look()
    assert list(archive.read(1, 1)) == life.frames


def test_an_emptied_store_is_filled_from_another(stores: list[Store], life: Life) -> None:
    archive_life(stores[0], life, size=10)
    tidier = Tidier(stores, [], 1, ArchiveSettings())
    tidier.tidy(stores[1])
    assert catalogue_of(stores[1]).segments == {}
    tidier.fill(stores[1], FRAMES)
    tidier.tidy(stores[1])
    assert tidier.filled == {stores[1].name}
    alone = Archive([stores[1]])
    alone.look()
    assert list(alone.read(1, 1)) == life.frames


def test_two_stores_that_say_differently_how_an_epoch_began_are_refused(stores: list[Store], life: Life) -> None:
    for store, position in zip(stores, (20, 30), strict=True):
        archive_life(store, life)
        epoch = Epoch(epoch=2, parent=1, position=position, digest=life.frames[position - 1].digest.hex())
        store.put(epoch.name, msgspec.json.encode(epoch))
    archive = Archive(stores)
    archive.look()
    with pytest.raises(OtherJournalError, match="after position 30 and after 20"):
        list(archive.read(2, 1))
