"""Disks that are slow, broken or full for one process: a Python one, and a real etcd, and how all of it is undone."""

import asyncio
import errno
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from fivenines.drill.faults import disks
from fivenines.drill.faults.book import Book
from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.faults.force import begun
from fivenines.drill.faults.processes import Process, process_of
from fivenines.drill.faults.undoing import Untraced
from fivenines.drill.members import Member, make_cluster
from fivenines.drill.members import running as members_running
from tests.integration.etcd.clusters import need_etcd
from tests.integration.faults.drilling import check_within, drilling, wait_until_watched_no_more, writing


@pytest.fixture(autouse=True)
def may_trace() -> None:
    """Skip where processes may not be meddled with."""
    if (reason := disks.why_not()) is not None:
        pytest.skip(reason)


def while_begun(folder: Path, name: str, begin: Callable[..., object], is_so: Callable[[], bool]) -> None:
    """Begin a fault, wait until something shows, end it."""

    async def run() -> None:
        async with begun(folder, name, "a test") as fault:
            await begin(fault)  # type: ignore[misc]
            await asyncio.to_thread(check_within, is_so, f"{name} shows")

    asyncio.run(run())
    wait_until_watched_no_more(folder)


def test_each_sync_takes_long(tmp_path: Path) -> None:
    with writing(tmp_path / "data" / "file") as hit:
        while_begun(
            tmp_path,
            "slow_fsync",
            lambda fault: disks.slow_fsync(fault, [hit.process], delay_s=0.3),
            lambda: hit.took_s >= 0.3,
        )
        check_within(lambda: 0 < hit.took_s < 0.3, "it is quick again")
        assert not Untraced(hit.process).still()
        assert not hit.error


@pytest.mark.parametrize("calls", ["sync", "write"])
def test_calls_fail_and_then_do_not(tmp_path: Path, calls: str) -> None:
    folder = tmp_path / "data"
    with writing(folder / "file") as hit:
        while_begun(
            tmp_path,
            "io_errors",
            lambda fault: disks.io_errors(fault, [hit.process], folder, calls=calls),
            lambda: hit.error == errno.EIO,
        )
        hit.check_goes_on()


def test_the_disk_is_full_and_then_is_not(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    with writing(folder / "file") as hit:
        while_begun(
            tmp_path,
            "disk_full",
            lambda fault: disks.disk_full(fault, [hit.process], folder),
            lambda: hit.error in {errno.ENOSPC, errno.EFBIG},
        )
        hit.check_goes_on()


@pytest.mark.parametrize("way", ["slow_fsync", "io_errors", "disk_full"])
def test_a_killed_drill_leaves_no_disk_broken(tmp_path: Path, way: str) -> None:
    path = tmp_path / "data" / "file"
    with writing(path) as hit, drilling(tmp_path, f"beginning.{way}", hit.process.pid, path.parent) as drill:
        assert Untraced(hit.process).still()
        os.kill(drill.pid, signal.SIGKILL)
        check_within(lambda: not Book(tmp_path).entries(), "the book is empty")
        assert not Untraced(hit.process).still()
        hit.check_goes_on()


def test_only_files_of_the_folder_are_data(tmp_path: Path) -> None:
    path = tmp_path / "data" / "file"
    with writing(path) as hit:
        assert disks.files_of([hit.process], path.parent) == (str(path),)


@pytest.fixture
def member(tmp_path: Path) -> Iterator[Member]:
    """An etcd of one member."""
    need_etcd()
    cluster = make_cluster(tmp_path / "etcd", members=1)
    with members_running(cluster):
        yield cluster.members[0]


def put(member: Member) -> float:
    """Write a value, and return how long that took. Raises `httpx.HTTPError` where it is not written."""
    began = time.monotonic()
    url = f"http://{member.endpoint}/v3/kv/put"
    httpx.post(url, json={"key": "YQ==", "value": "Yg=="}, timeout=20, trust_env=False).raise_for_status()
    return time.monotonic() - began


def hit_by(member: Member) -> Process:
    assert member.process is not None
    return process_of(member.process.pid)


def test_etcd_takes_long_and_stays(member: Member, tmp_path: Path) -> None:
    hit = hit_by(member)

    async def run() -> float:
        async with begun(tmp_path, "slow_fsync", "etcd") as fault:
            await disks.slow_fsync(fault, [hit], delay_s=0.3)
            return await asyncio.to_thread(put, member)

    put(member)
    assert asyncio.run(run()) >= 0.3
    assert put(member) > 0
    assert hit.is_alive()
    wait_until_watched_no_more(tmp_path)


@pytest.mark.parametrize("way", ["io_errors", "disk_full"])
def test_etcd_acknowledges_nothing_that_it_cannot_write(member: Member, tmp_path: Path, way: str) -> None:
    hit, folder = hit_by(member), member.directory / "data"

    async def run() -> None:
        async with begun(tmp_path, way, "etcd") as fault:
            if way == "io_errors":
                await disks.io_errors(fault, [hit], folder)
            else:
                await disks.disk_full(fault, [hit], folder)
            with pytest.raises(httpx.HTTPError):
                await asyncio.to_thread(put, member)

    put(member)
    asyncio.run(run())
    check_within(lambda: not hit.is_alive(), "it has given up: its disk is broken")
    assert disks.why_not() is None
    wait_until_watched_no_more(tmp_path)


def test_a_process_that_has_ended_cannot_be_meddled_with(tmp_path: Path) -> None:
    async def run() -> None:
        async with begun(tmp_path, "slow_fsync", "nobody") as fault:
            await disks.slow_fsync(fault, [Process(2**22 - 1, 1)], delay_s=0.1)

    with pytest.raises(FaultImpossibleError, match="slow_fsync cannot be done here: the process has ended"):
        asyncio.run(run())
    wait_until_watched_no_more(tmp_path)
    assert Book(tmp_path).entries() == []
