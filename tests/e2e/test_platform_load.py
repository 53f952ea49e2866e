"""The steady load of drills, on a ledger in one process: it asks at its rate, hears all, and its end is told."""

import asyncio
import os
import signal
import time
from collections.abc import Coroutine
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import pytest

from fivenines.drill.checker import stretch
from fivenines.drill.disk import read_disk
from fivenines.drill.steady import Load, SteadyFailedError, SteadyLoad
from tests.e2e.platforms import left_of
from tests.e2e.serving import Server

pytestmark = pytest.mark.alone

RATE_PER_S = 40.0
T = TypeVar("T")


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(150):
            return await work

    return asyncio.run(bounded())


async def asked_for(load: SteadyLoad, seconds: float) -> float:
    """Ask for a while; returns the moment by which all that was due has ended."""
    try:
        await load.start()
        ended = time.monotonic() + seconds
        await load.wait_ended(ended)
        await load.stop()
        return ended
    finally:
        await load.discard()


def test_a_load_asks_at_its_rate_and_hears_every_answer(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        described = Load(url=server.url, nameservers=((), ()), rate_per_s=RATE_PER_S, name="one")
        load = SteadyLoad(described, tmp_path / "load.log")
        ended = run(asked_for(load, 2.0))
        server.stop()
    due = sorted(each.due for each in load.asked)
    # An open load: the times at which requests are due are those of a clock, whatever the answers do.
    assert due[0] == pytest.approx(load.began)
    assert all(later - earlier == pytest.approx(1 / RATE_PER_S) for earlier, later in pairwise(due))
    assert due[-1] >= ended - 1 / RATE_PER_S
    found = stretch(load.asked, load.began, ended, rate_per_s=RATE_PER_S)
    assert found.failed == 0
    assert found.requests == pytest.approx((ended - load.began) * RATE_PER_S, abs=1.5)
    reads = [each for each in load.asked if not each.id]
    assert len(reads) == pytest.approx(len(load.asked) / 4, abs=1)
    assert {each.client for each in load.asked} == {0, 1}
    posted = {each.id: each.position for each in load.asked if each.outcome == "posted"}
    assert len(posted) == len(load.asked) - len(reads)
    assert posted == read_disk(tmp_path / "data").carried_out


def test_a_load_that_cannot_begin_says_why(tmp_path: Path) -> None:
    load = SteadyLoad(Load(url="nowhere", nameservers=((),)), tmp_path / "load.log")
    with pytest.raises(SteadyFailedError, match="did not begin") as caught:
        run(asked_for(load, 1.0))
    assert "no URL of a ledger" in str(caught.value)


def test_a_load_that_ends_by_itself_is_told(tmp_path: Path) -> None:
    async def killed(load: SteadyLoad) -> None:
        try:
            await load.start()
            (pid,) = [each for each in processes() if is_load(each, load)]
            os.kill(pid, signal.SIGKILL)
            await load.wait_ended(time.monotonic() + 60)
        finally:
            await load.discard()

    with Server(tmp_path / "data") as server:
        load = SteadyLoad(Load(url=server.url, nameservers=((),), rate_per_s=RATE_PER_S), tmp_path / "load.log")
        with pytest.raises(SteadyFailedError, match="ended by itself"):
            run(killed(load))
        assert "drill.steady" not in left_of(server.url)


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdecimal()]


def is_load(pid: int, load: SteadyLoad) -> bool:
    """Whether a process is the one of a load, which is known by the address that it asks."""
    try:
        line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
    except OSError:
        return False
    return "fivenines.drill.steady" in line and load.load.url in line
