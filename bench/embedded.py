"""What the ledger does inside one process, without HTTP: one task, in a process of its own.

`python -m bench.embedded TASK FOLDER COUNT` prints one JSON object of figures. Each run has a fresh process, so that no
run inherits another's memory. Input is made, and encoded, before a clock starts.
"""

import asyncio
import ctypes
import gc
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from bench.workload import ACCOUNTS, BATCH_SIZE, account_names, opening, ring, transfers
from fivenines.journal import FileJournal
from fivenines.ledger import RULES, Outcome, State, apply, decode, encode
from fivenines.node import snapshots
from fivenines.node.recovery import recover
from fivenines.node.replica import Replica

__all__ = ["TASKS"]

APPENDS_IN_FLIGHT = 4
MILLION = 1_000_000
BLOCK_IDS = 8_192
RETENTION_US = RULES[1].retention_ms * 1_000


def measure_apply(_folder: Path, count: int) -> dict[str, float]:
    """Apply transactions that are decoded already, one core."""
    names = account_names(ACCOUNTS)
    state = opened(names)
    payloads = [encode(batch) for batch in transfers(names, batches=count // BATCH_SIZE)]
    busy_s = 0.0
    # Decoded from bytes, as in a node: names come as new strings, whose hashes nobody has computed yet.
    for payload in payloads:
        batch = decode(payload)
        started = time.perf_counter()
        applied = apply(state, batch)
        busy_s += time.perf_counter() - started
        check_posted(applied.outcomes)
    return {"apply_per_s": count / busy_s}


def measure_durable(folder: Path, count: int) -> dict[str, float]:
    """Append frames to a file journal, and decode and apply them as they become durable."""
    names = account_names(ACCOUNTS)
    payloads = [encode(batch) for batch in transfers(names, batches=count // BATCH_SIZE)]
    return {
        "durable_per_s": count / asyncio.run(append_and_apply(folder / "journal", opened_payloads(names), payloads))
    }


async def append_and_apply(folder: Path, before: list[bytes], payloads: list[bytes]) -> float:
    """Return the seconds from the first append to the last frame applied."""
    journal = FileJournal.open(folder)
    replica = Replica(State(), journal)
    replica.listen(lambda _frame, _batch, applied: check_posted(applied.outcomes))
    following = asyncio.create_task(replica.run())
    for payload in before:
        await journal.append(payload)
    await replica.wait_position(journal.last, 60)
    started = time.perf_counter()
    queue = iter(payloads)

    async def append() -> None:
        for payload in queue:
            await journal.append(payload)

    async with asyncio.TaskGroup() as appends:
        for _ in range(APPENDS_IN_FLIGHT):
            appends.create_task(append())
    await replica.wait_position(journal.last, 60)
    seconds = time.perf_counter() - started
    check_books(replica.state)
    await journal.close()
    await following
    return seconds


def make_journal(folder: Path, count: int) -> dict[str, float]:
    """Write a journal of transactions, for `measure_replay`."""
    names = account_names(ACCOUNTS)
    payloads = (encode(batch) for batch in transfers(names, batches=count // BATCH_SIZE))
    asyncio.run(write_journal(folder, [*opened_payloads(names), *payloads]))
    return {}


def measure_replay(folder: Path, count: int) -> dict[str, float]:
    """Start from a journal alone: check all of it, and apply it."""

    async def start() -> float:
        started = time.perf_counter()
        journal = FileJournal.open(folder / "journal")
        recovered = recover(folder, journal)
        seconds = time.perf_counter() - started
        assert recovered.commands_replayed == count + ACCOUNTS + 1
        check_books(recovered.state)
        await journal.close()
        return seconds

    return {"replay_1m_s": asyncio.run(start()) * MILLION / count}


def make_snapshot(folder: Path, count: int) -> dict[str, float]:
    """Write a snapshot of many accounts, for `measure_snapshot`."""
    payloads = opened_payloads(account_names(count))
    frame_digest = asyncio.run(write_journal(folder, payloads))
    snapshots.write(folder, replayed(payloads), frame_digest)
    return {}


def measure_snapshot(folder: Path, count: int) -> dict[str, float]:
    """Start from a snapshot (check all of it, and make the state anew), and write one of the same state."""
    (path,) = snapshots.paths(folder)
    started = time.perf_counter()
    loaded = snapshots.load(path)
    read = time.perf_counter()
    assert len(loaded.state.accounts) == count
    again = folder / "again"
    again.mkdir(exist_ok=True)
    starting_to_write = time.perf_counter()
    written = snapshots.write(again, loaded.state, loaded.frame_digest)
    done = time.perf_counter()
    assert written.read_bytes() == path.read_bytes()
    return {
        "snapshot_1m_accounts_s": (read - started) * MILLION / count,
        "snapshot_1m_accounts_write_s": (done - starting_to_write) * MILLION / count,
    }


def measure_account_bytes(_folder: Path, count: int) -> dict[str, float]:
    """Weigh accounts, by what the process grows, each with money moved in and out."""
    payloads = [*opened_payloads(names := account_names(count)), *map(encode, ring(names))]
    # So much later that all ids are forgotten: they are weighed elsewhere.
    last = decode(payloads[-1])
    payloads.append(encode(msgspec.structs.replace(last, time_us=last.time_us + 2 * RETENTION_US, commands=[])))
    state = State()
    del names
    before = resident_bytes()
    for payload in payloads:
        apply(state, decode(payload))
    assert not state.decided.blocks
    return {"bytes_per_account": (resident_bytes() - before) / count}


def measure_id_bytes(_folder: Path, count: int) -> dict[str, float]:
    """Weigh remembered ids, by what the process grows."""
    names = account_names(ACCOUNTS)
    state = opened(names)
    cycles = count // (3 * BLOCK_IDS)
    payloads = [encode(batch) for batch in transfers(names, batches=3 * (cycles + 5), size=BLOCK_IDS)]
    # The first frames bring what comes once: the open end of the memory, and totals that are no small integers. Every
    # third frame closes three blocks, and leaves the open end as long as it was.
    for payload in payloads[:15]:
        apply(state, decode(payload))
    before, open_before = resident_bytes(), len(state.decided.tail_ids)
    for payload in payloads[15:]:
        check_posted(apply(state, decode(payload)).outcomes)
    assert len(state.decided.tail_ids) == open_before
    return {"bytes_per_id": (resident_bytes() - before) / (cycles * 3 * BLOCK_IDS)}


def opened_payloads(names: list[str]) -> list[bytes]:
    """Return the frames that open the accounts."""
    return [encode(batch) for batch in opening(names)]


def opened(names: list[str]) -> State:
    """Return a state with the accounts open."""
    return replayed(opened_payloads(names))


def replayed(payloads: Iterable[bytes]) -> State:
    """Return the state after some frames."""
    state = State()
    for payload in payloads:
        apply(state, decode(payload))
    return state


async def write_journal(folder: Path, payloads: Iterable[bytes]) -> bytes:
    """Append frames to a new journal, and return the digest of the last one."""
    journal = FileJournal.open(folder / "journal")
    for payload in payloads:
        await journal.append(payload)
    await journal.close()
    return journal.last_digest


def check_posted(outcomes: list[int]) -> None:
    """Raise when a transaction was refused: moving no money is quicker, and not what is measured."""
    assert set(outcomes) <= {Outcome.posted, Outcome.done}, set(outcomes)


def check_books(state: State) -> None:
    """Raise when the books do not balance."""
    assert not state.imbalances()


def resident_bytes() -> int:
    """Return how much memory the process holds, without what the allocator merely keeps."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


TASKS: dict[str, Callable[[Path, int], dict[str, float]]] = {
    "apply": measure_apply,
    "durable": measure_durable,
    "make_journal": make_journal,
    "replay": measure_replay,
    "make_snapshot": make_snapshot,
    "snapshot": measure_snapshot,
    "account_bytes": measure_account_bytes,
    "id_bytes": measure_id_bytes,
}

if __name__ == "__main__":
    # As a node sets the collector.
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
    task, folder_name, count_text = sys.argv[1:]
    print(msgspec.json.encode(TASKS[task](Path(folder_name), int(count_text))).decode())
