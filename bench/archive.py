"""What an archive costs inside one process: `python -m bench.archive TASK FOLDER COUNT` prints one JSON object."""

import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from bench.embedded import opened_payloads
from bench.workload import ACCOUNTS, BATCH_SIZE, account_names, transfers
from fivenines.historian.follower import Follower
from fivenines.historian.restoring import Target, restore
from fivenines.historian.settings import ArchiveSettings
from fivenines.journal import Frame
from fivenines.journal.archive import SegmentName, open_store, pack_segment
from fivenines.journal.format import DIGEST_NONE, frame_digest
from fivenines.ledger import State, encode

__all__ = ["TASKS"]

SEGMENT_BYTES = ArchiveSettings().segment_bytes


def frames_of(count: int) -> list[Frame]:
    """Return the frames that open accounts, and then those of transactions of one posting."""
    names = account_names(ACCOUNTS)
    payloads = [*opened_payloads(names), *(encode(batch) for batch in transfers(names, batches=count // BATCH_SIZE))]
    frames, digest = [], DIGEST_NONE
    for position, payload in enumerate(payloads, start=1):
        digest = frame_digest(position, digest, payload)
        frames.append(Frame(position, payload, digest))
    return frames


def measure_archive(folder: Path, count: int) -> dict[str, float]:
    """Apply frames, seal them into segments and write those durably into a folder, as a historian does."""
    frames = frames_of(count)
    store = open_store(str(folder / "archive"))
    follower = Follower(State(), DIGEST_NONE)
    pending: list[Frame] = []
    size = stored = 0
    before = DIGEST_NONE

    def seal() -> None:
        nonlocal before, stored
        data = pack_segment(pending, before, follower.state.outcomes_digest)
        store.put(str(SegmentName(1, pending[0].position, pending[-1].position)), data)
        before = pending[-1].digest
        stored += len(data)
        pending.clear()

    started = time.perf_counter()
    for frame in frames:
        follower.step(frame)
        pending.append(frame)
        size += len(frame.payload)
        if sum(len(each.payload) for each in pending) >= SEGMENT_BYTES:
            seal()
    if pending:
        seal()
    seconds = time.perf_counter() - started
    return {"archive_mb_per_s": size / 1e6 / seconds, "archive_size_share": stored / size}


def make_archive(folder: Path, count: int) -> dict[str, float]:
    """Write an archive, for `measure_restore`."""
    measure_archive(folder, count)
    return {}


def measure_restore(folder: Path, count: int) -> dict[str, float]:
    """Restore all of an archive from its first frame on, and digest the state."""
    started = time.perf_counter()
    restored = restore([open_store(str(folder / "archive"))], Target(), folder)
    seconds = time.perf_counter() - started
    assert restored.commands == count + ACCOUNTS + 1, restored.commands
    return {"restore_per_s": count / seconds}


TASKS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "archive": measure_archive,
    "make_archive": make_archive,
    "restore": measure_restore,
}

if __name__ == "__main__":
    task, folder, count = sys.argv[1:]
    sys.stdout.write(msgspec.json.encode(TASKS[task](Path(folder), int(count))).decode() + "\n")
