"""The regions of a demo: killed and back, nothing is left of them, and what ends by itself is told."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

from fivenines.drill.regions import Regions
from fivenines.drill.supervise import LedgerFailedError
from tests.integration.etcd.clusters import need_etcd


@contextlib.asynccontextmanager
async def started(folder: Path) -> AsyncIterator[tuple[Regions, list[str]]]:
    """Three regions, and what was told while they were kept up; gone at the end."""
    place, told = Regions(folder), list[str]()
    try:
        await place.start()
        yield place, told
    finally:
        await place.discard()


async def raised_by(keeper: "asyncio.Task[None]") -> str:
    with pytest.raises(LedgerFailedError) as caught:
        async with asyncio.timeout(60):
            await keeper
    return str(caught.value)


def pids(place: Regions) -> list[int]:
    members = [member.process.pid for member in place.cluster.members if member.process]
    return members + [region.node.pid for region in place.regions if region.node.pid]


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture(autouse=True)
def etcd() -> None:
    need_etcd()


def test_a_node_and_a_region_are_killed_and_come_back_and_nothing_is_left(tmp_path: Path) -> None:
    async def drill() -> tuple[list[str], list[str], list[list[int]]]:
        async with started(tmp_path) as (place, told):
            seen = [pids(place)]
            keeper = asyncio.create_task(place.keep_up(told.append))
            killed = []
            for _ in range(2):
                killed.append(place.kill())
                await place.wait_whole()
                seen.append(pids(place))
            keeper.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await keeper
            ready = await restarted(place)
            assert len(ready) == 3
            seen.append(pids(place))
        return killed, told, seen

    async def restarted(place: Regions) -> list[str]:
        await place.stop()
        return [each.name for each in await place.start()]

    killed, told, seen = asyncio.run(drill())
    assert killed[0].startswith("node ")
    assert killed[1].startswith("region ")
    assert [line.partition(",")[0] for line in told] == [f"{killed[0]} serves again", f"{killed[1]} is back"]
    assert [len(each) for each in seen] == [6, 6, 6, 6]
    assert [len(set(later) - set(earlier)) for earlier, later in pairwise(seen)] == [1, 2, 6]
    assert not [pid for each in seen for pid in each if is_alive(pid)]


@pytest.mark.parametrize("what", ["member", "node"])
def test_what_ends_by_itself_is_told(what: str, tmp_path: Path) -> None:
    async def drill() -> str:
        async with started(tmp_path) as (place, told):
            keeper = asyncio.create_task(place.keep_up(told.append))
            member, node = place.regions[1].member.process, place.regions[1].node.pid
            assert member is not None
            assert node is not None
            os.kill(member.pid if what == "member" else node, signal.SIGKILL)
            return await raised_by(keeper)

    told = asyncio.run(drill())
    assert "eu-north" in told
    assert "ended by itself, with status -9" in told


def test_a_machine_without_etcd_is_told_what_to_install(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fivenines.drill.demo", "--transactions", "100", "--out", str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env={name: value for name, value in os.environ.items() if name != "BOOKS"} | {"PATH": str(tmp_path)},
    )
    assert done.returncode == 1, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    assert "the demo failed: etcd is not installed: on Debian and Ubuntu it is in the package etcd-server" in told
    assert "Traceback" not in done.stdout + done.stderr
