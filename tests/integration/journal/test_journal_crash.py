"""Real processes, really killed: what was acknowledged is there, once, in order, and nothing that nobody wrote."""

import multiprocessing
import os
import random
import time
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from fivenines.journal import FileJournal, Frame, JournalLockedError, show, verify
from tests.integration.journal.appender import (
    ACK,
    SETTINGS,
    append_until_killed,
    fill_until_refused,
    hold_open,
    name_of,
    payload_of,
)
from tests.unit.journal.journals import contents, open_writer

# A server that has imported everything forks a child in milliseconds.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.integration.journal.appender"])

KILLS = 100


@pytest.mark.crash
def test_a_killed_writer_loses_nothing_that_it_acknowledged(tmp_path: Path, crash_factor: int) -> None:
    # The seed that the run of all tests prints is the seed of this, too.
    weather = random.Random(random.randrange(1 << 32))
    checked, digest = 0, b""
    acknowledged_in_all = 0
    for run in range(KILLS * crash_factor):
        acknowledged = run_and_kill(tmp_path, run, weather.uniform(0, 0.05))
        acknowledged_in_all += len(acknowledged)
        recover(tmp_path)
        if checked:
            assert next(show(tmp_path, checked)).digest == digest
        frames = list(show(tmp_path, checked + 1))
        check(run, checked, frames, acknowledged)
        if frames:
            checked, digest = frames[-1].position, frames[-1].digest
        if weather.random() < 0.2:
            trim(tmp_path, checked)
    assert acknowledged_in_all > KILLS


def run_and_kill(directory: Path, run: int, after_s: float) -> dict[int, tuple[int, int, int]]:
    """Start a writer, kill it after a while, and return what it acknowledged: which payload at which position."""
    receiver, sender = PROCESSES.Pipe(duplex=False)
    child = PROCESSES.Process(target=append_until_killed, args=(directory, run, sender))
    child.start()
    sender.close()
    # Half of them die while they start, half at work.
    if run % 2:
        receiver.poll(10)
    time.sleep(after_s)
    child.kill()
    child.join()
    assert child.exitcode == -9
    child.close()
    return dict(read_acknowledgements(receiver))


def read_acknowledgements(receiver: Connection) -> list[tuple[int, tuple[int, int, int]]]:
    data = b""
    while chunk := os.read(receiver.fileno(), 65_536):
        data += chunk
    receiver.close()
    whole = len(data) // ACK.size * ACK.size
    return [(position, (run, who, number)) for position, run, who, number in ACK.iter_unpack(data[:whole])]


def check(run: int, before: int, frames: list[Frame], acknowledged: dict[int, tuple[int, int, int]]) -> None:
    """Judge what is in the journal by what was acknowledged."""
    assert [frame.position for frame in frames] == list(range(before + 1, before + len(frames) + 1))
    found = {frame.position: name_of(frame.payload) for frame in frames}
    assert acknowledged.items() <= found.items()
    assert all(frame.payload == payload_of(*name_of(frame.payload)) for frame in frames)
    assert all(of_run == run for of_run, _, _ in found.values())
    # In order, exactly once: each appender's numbers go up by one; and at most one of each was not acknowledged.
    appenders = {who for _, who, _ in found.values()}
    for appender in appenders:
        numbers = [number for _, who, number in found.values() if who == appender]
        assert numbers == list(range(len(numbers)))
        known = [number for _, who, number in acknowledged.values() if who == appender]
        assert len(numbers) - len(known) in {0, 1}


def recover(directory: Path) -> None:
    open_writer(directory).close()
    assert verify(directory).is_sound
    assert verify(directory).tail is None


def trim(directory: Path, before: int) -> None:
    writer = open_writer(directory, segment_bytes=SETTINGS.segment_bytes)
    writer.trim(before)
    writer.close()


def test_a_journal_in_use_is_refused_and_names_the_process_and_is_free_when_that_dies(tmp_path: Path) -> None:
    mine, theirs = PROCESSES.Pipe()
    child = PROCESSES.Process(target=hold_open, args=(tmp_path, theirs))
    child.start()
    pid = mine.recv()
    before = contents(tmp_path)
    with pytest.raises(JournalLockedError, match=f"process {pid}") as refused:
        FileJournal.open(tmp_path)
    assert (refused.value.directory, refused.value.pid) == (tmp_path, pid)
    assert contents(tmp_path) == before
    assert verify(tmp_path).is_sound
    child.kill()
    child.join()
    child.close()
    mine.close()
    theirs.close()
    open_writer(tmp_path).close()
    assert verify(tmp_path).last == 0


def test_a_limit_on_file_size_refuses_clearly_and_what_was_written_stays(tmp_path: Path) -> None:
    mine, theirs = PROCESSES.Pipe()
    child = PROCESSES.Process(target=fill_until_refused, args=(tmp_path, 50_500, theirs))
    child.start()
    acknowledged, refusal, readable, again = mine.recv()
    child.join()
    assert child.exitcode == 0
    child.close()
    mine.close()
    theirs.close()
    assert refusal[0] == "JournalFullError"
    assert "File too large" in refusal[1]
    assert acknowledged == readable == (50_500 - 64) // 1_080
    assert again == acknowledged + 1
    verdict = verify(tmp_path)
    assert (verdict.frames, verdict.tail, verdict.damage) == (again, None, None)
