"""A load on a real node: it asks when its shape says, hears all, and its end is told; by hand, too."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Coroutine, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest
import typer
from typer.testing import CliRunner

from fivenines.cli.load import register
from fivenines.drill.checker import stretch
from fivenines.drill.disk import read_disk
from fivenines.drill.load.asked import Asked
from fivenines.drill.load.latencies import Histogram, latencies_of
from fivenines.drill.load.plan import Plan
from fivenines.drill.load.running import LoadFailedError, RunningLoad
from fivenines.drill.load.shapes import Recorded, Spike, Steady
from tests.e2e.serving import Server

RATE_PER_S = 40.0
T = TypeVar("T")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(tmp_path_factory.mktemp("load") / "data") as running:
        yield running


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(150):
            return await work

    return asyncio.run(bounded())


async def asked_for(load: RunningLoad, seconds: float) -> float:
    """Ask for a while; returns the moment by which all that was due has ended."""
    try:
        await load.start()
        ended = load.began + seconds
        await load.wait_ended(ended)
        heard = [each for each in load.asked if each.due < ended]
        assert len(heard) == sum(load.began + due < ended for due in takewhile_before(load.plan, seconds))
        await load.stop()
        return ended
    finally:
        await load.discard()


def takewhile_before(plan: Plan, seconds: float) -> Iterator[float]:
    for due in plan.due():
        if due >= seconds:
            return
        yield due


async def carried_out(load: RunningLoad) -> None:
    try:
        await load.start()
        await load.wait_over()
    finally:
        await load.discard()


def test_a_load_asks_at_its_rate_and_hears_every_answer(server: Server, tmp_path: Path) -> None:
    plan = Plan(url=server.url, nameservers=(None, None), shape=Steady(rate_per_s=RATE_PER_S), name="one")
    load = RunningLoad(plan, tmp_path / "load.log")
    ended = run(asked_for(load, 2.0))
    due = sorted(each.due for each in load.asked)
    # An open load: the times at which requests are due are those of a clock, whatever the answers do.
    assert due[0] == pytest.approx(load.began)
    assert all(later - earlier == pytest.approx(1 / RATE_PER_S) for earlier, later in pairwise(due))
    assert due[-1] >= ended - 1 / RATE_PER_S - 1e-6
    assert not any(each.error for each in load.asked), load.asked
    assert all(each.due <= each.sent <= each.ended for each in load.asked)
    assert {each.client for each in load.asked} == {0, 1}
    assert {each.kind for each in load.asked} >= {"post", "read"}


def test_what_it_heard_is_what_the_journal_has(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as own:
        plan = Plan(url=own.url, nameservers=(None, None), shape=Steady(rate_per_s=RATE_PER_S), name="journal")
        load = RunningLoad(plan, tmp_path / "load.log")
        ended = run(asked_for(load, 2.0))
        own.stop()
    found = stretch(load.asked, load.began, ended, rate_per_s=RATE_PER_S)
    assert found.failed == 0
    assert found.requests == pytest.approx((ended - load.began) * RATE_PER_S, abs=1.5)
    posted = {each.id: each.position for each in load.asked if each.outcome == "posted"}
    assert posted
    on_disk = read_disk(tmp_path / "data").carried_out
    assert posted == {id: on_disk.get(id) for id in posted}


def test_a_plan_that_is_over_ends_by_itself(server: Server, tmp_path: Path) -> None:
    shape = Spike(rate_per_s=20.0, seconds=2.0, spike_s=0.5, times=4.0)
    plan = Plan(url=server.url, shape=shape, seconds=2.0, arrivals="poisson", seed=7, name="spike")
    load = RunningLoad(plan, tmp_path / "load.log")
    run(carried_out(load))
    assert sorted(each.due - load.began for each in load.asked) == pytest.approx(list(plan.due()))
    assert latencies_of(load.asked).failed == 0


def test_a_long_recording_reaches_the_process(server: Server, tmp_path: Path) -> None:
    rates = (20.0, 0.0) * 20_000
    assert len(msgspec.json.encode(rates)) > 128 * 1024  # more than an argument of a process may have
    plan = Plan(url=server.url, shape=Recorded(rates_per_s=rates, width_s=0.2), seconds=0.6, name="long")
    load = RunningLoad(plan, tmp_path / "load.log")
    run(carried_out(load))
    assert len(load.asked) == 8


def test_a_pause_of_the_ledger_shows_in_all_that_was_due_meanwhile(server: Server, tmp_path: Path) -> None:
    plan = Plan(url=server.url, shape=Steady(rate_per_s=RATE_PER_S), name="pause")
    load = RunningLoad(plan, tmp_path / "load.log")
    held: list[float] = []

    async def paused() -> None:
        try:
            await load.start()
            await load.wait_ended(time.monotonic())
            server.process.send_signal(signal.SIGSTOP)
            try:
                held.append(time.monotonic())
                await asyncio.sleep(1.0)
                held.append(time.monotonic())
            finally:
                server.process.send_signal(signal.SIGCONT)
            await load.wait_ended(held[1])
            await load.stop()
        finally:
            await load.discard()

    run(paused())
    began, ended = held
    meanwhile = [each for each in load.asked if began + 0.05 < each.due < ended]
    assert len(meanwhile) >= RATE_PER_S * 0.9 * (ended - began - 0.05) - 1
    assert all(each.ended >= ended and each.latency_s >= ended - each.due for each in meanwhile)
    assert not any(each.error for each in load.asked)


def test_a_load_that_cannot_begin_says_why(tmp_path: Path) -> None:
    load = RunningLoad(Plan(url="nowhere"), tmp_path / "load.log")
    with pytest.raises(LoadFailedError, match="did not begin") as caught:
        run(carried_out(load))
    assert "no URL of a ledger" in str(caught.value)
    assert "Traceback" not in str(caught.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"nameservers": ()}, "nameservers must have an entry"),
        ({"connections": 0}, "connections must be above 0, not 0"),
        ({"seconds": -1.0}, "seconds must be above 0, not -1"),
        ({"shape": Steady(rate_per_s=0.0)}, "rate_per_s must be above 0"),
    ],
)
def test_a_plan_that_makes_no_sense_starts_nothing(wrong: dict[str, Any], said: str, tmp_path: Path) -> None:
    load = RunningLoad(Plan(url="http://127.0.0.1:1", **wrong), tmp_path / "load.log")
    with pytest.raises(ValueError, match=said):
        run(load.start())
    assert not (tmp_path / "load.log").exists()


def test_a_load_that_is_killed_is_told(server: Server, tmp_path: Path) -> None:
    load = RunningLoad(Plan(url=server.url, name="killed"), tmp_path / "load.log")

    async def killed() -> None:
        try:
            await load.start()
            os.kill(load.pid, signal.SIGKILL)
            await load.wait_ended(time.monotonic() + 60)
        finally:
            await load.discard()

    with pytest.raises(LoadFailedError, match="status -9"):
        run(killed())


def test_a_load_does_not_outlive_who_started_it(server: Server, tmp_path: Path) -> None:
    starts = (
        "import asyncio, sys, time\n"
        "from pathlib import Path\n"
        "from fivenines.drill.load.plan import Plan\n"
        "from fivenines.drill.load.running import RunningLoad\n"
        "async def main():\n"
        "    load = RunningLoad(Plan(url=sys.argv[1], name='orphan'), Path(sys.argv[2]))\n"
        "    await load.start()\n"
        "    print(load.pid, flush=True)\n"
        "    await asyncio.sleep(600)\n"
        "asyncio.run(main())\n"
    )
    command = [sys.executable, "-c", starts, server.url, str(tmp_path / "load.log")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        watched = os.pidfd_open(pid)
        parent.kill()
    try:
        ended = asyncio.run(readable(watched))
    finally:
        os.close(watched)
    assert ended


async def readable(descriptor: int) -> bool:
    """Wait until a process has ended, by its descriptor."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(60):
            return await ended.wait()
    finally:
        loop.remove_reader(descriptor)


# --- by hand


def invoke(*arguments: str) -> Any:
    app = typer.Typer()
    app.callback()(lambda: None)
    register(app)
    return CliRunner().invoke(app, ["load", *arguments])


def test_a_load_by_hand_shows_percentiles(server: Server, tmp_path: Path) -> None:
    log = tmp_path / "asked.jsonl"
    options = ("--rate", "40", "--seconds", "1", "--shape", "flash-sale", "--name", "hand", "--log", str(log))
    done = invoke(server.url, *options)
    assert done.exit_code == 0, done.output
    asked = [msgspec.json.decode(line, type=Asked) for line in log.read_bytes().splitlines()]
    assert f"{len(asked)} requests in 1.0 s" in done.output
    assert "99.99" in done.output
    assert ", 0 failed" in done.output


def test_a_load_by_hand_tells_programs_what_it_saw(server: Server) -> None:
    done = invoke(server.url, "--rate", "50", "--seconds", "1", "--arrivals", "poisson", "--seed", "3", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    plan = Plan(url="", shape=Steady(rate_per_s=50.0), seconds=1.0, arrivals="poisson", seed=3)
    assert told["asked"] == len(list(plan.due()))
    assert told["failed"] == 0
    assert Histogram.unpack(told["histogram_us"]).count == told["asked"]


def test_a_trace_is_replayed_by_hand(server: Server, tmp_path: Path) -> None:
    lines = [f"2013-10-07 09:30:{second:02d},{20 * (second % 2)},0" for second in range(10)]
    trace = tmp_path / "spy_trades_per_second_20131007_11.csv"
    trace.write_text("\n".join(["timestamp_new_york,trades,shares", *lines]) + "\n")
    done = invoke(server.url, "--trace", "spy", "--data", str(tmp_path), "--rate", "40", "--seconds", "1", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["asked"] == pytest.approx(40, abs=1)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--shape", "round"), "there is no shape 'round'; there are: steady"),
        (("--trace", "mars"), "there is no trace 'mars'; there are: nasa"),
        (("--arrivals", "late"), "--arrivals must be even or poisson, not 'late'"),
        (("--rate", "0"), "rate_per_s must be above 0"),
    ],
)
def test_what_cannot_be_done_by_hand_is_said(options: tuple[str, ...], said: str) -> None:
    done = invoke("http://127.0.0.1:1", *options)
    assert done.exit_code == 1
    assert said in " ".join(done.stderr.split())
