import os
import select
import sys
from pathlib import Path

import pytest

from bench import processes
from bench.processes import BenchError, filesystem_of, free_port, running, work_folder

PARENT_AND_CHILD = """
import pathlib, signal, subprocess, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
pathlib.Path(sys.argv[1]).write_text(str(child.pid))
signal.pause()
"""


def wait_end(watch: int) -> bool:
    """Wait for the end of a process, by its pidfd; return whether it came."""
    try:
        return select.select([watch], [], [], 30)[0] == [watch]
    finally:
        os.close(watch)


def test_a_server_is_stopped_with_what_it_started_itself(tmp_path: Path) -> None:
    note = tmp_path / "child"
    argv = [sys.executable, "-c", PARENT_AND_CHILD, str(note)]
    with running(argv, log=tmp_path / "log", ready=lambda: note.exists() and bool(note.read_text())) as process:
        child = os.pidfd_open(int(note.read_text()))
    assert process.returncode == 0
    assert wait_end(child)


def test_a_server_that_ends_before_it_is_ready_is_reported_with_its_last_words(tmp_path: Path) -> None:
    argv = [sys.executable, "-c", "raise SystemExit('no room at the inn')"]
    with (
        pytest.raises(BenchError, match="no room at the inn"),
        running(argv, log=tmp_path / "log", ready=lambda: False),
    ):
        pytest.fail("it was never ready")


def test_a_server_that_ignores_the_gentle_way_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "STOP_TIMEOUT_S", 0.1)
    note = tmp_path / "deaf"
    deaf = "import pathlib, signal, sys; signal.signal(15, signal.SIG_IGN)"
    deaf += "; pathlib.Path(sys.argv[1]).touch(); signal.pause()"
    with running([sys.executable, "-c", deaf, str(note)], log=tmp_path / "log", ready=note.exists) as process:
        pass
    assert process.returncode == -9


def test_a_work_folder_is_gone_afterwards_even_when_the_work_fails(tmp_path: Path) -> None:
    lent: list[Path] = []

    def work() -> None:
        with work_folder(tmp_path / "build") as folder:
            lent.append(folder)
            (folder / "data").write_text("something")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert not lent[0].exists()


def test_data_is_not_measured_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "MEMORY_FILESYSTEMS", frozenset({filesystem_of(tmp_path)}))
    monkeypatch.setattr(processes, "DISK_FOR_ALL", tmp_path)
    with pytest.raises(BenchError, match="in memory"), work_folder(tmp_path / "build"):
        pytest.fail("it was lent")


def test_the_filesystem_of_proc_is_proc() -> None:
    assert filesystem_of(Path("/proc/self")) == "proc"


def test_a_free_port_is_one_that_can_be_had() -> None:
    assert 1_024 <= free_port() <= 65_535
