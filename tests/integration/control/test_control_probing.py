"""Probes against a real ledger: they write, leave nothing but an asset, and notice what hangs and what is gone."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx

from fivenines.control.desired import Timings
from fivenines.control.probing import PROBE_ASSET, Prober
from fivenines.drill.supervise import LedgerProcess
from tests.integration.control.waiting import wait_until

TIMINGS = Timings(probe_s=0.1, probe_timeout_s=0.3)


@asynccontextmanager
async def probed(ledger: LedgerProcess) -> AsyncIterator[tuple[Prober, str]]:
    url = (await ledger.start()).url
    prober = Prober("eu-west", {"eu-west": url}, TIMINGS)
    probing = asyncio.create_task(prober.run())
    try:
        yield prober, url
    finally:
        probing.cancel()
        await asyncio.gather(probing, return_exceptions=True)
        if (pid := ledger.pid) is not None:
            os.kill(pid, signal.SIGCONT)
        await ledger.discard()


def make_ledger(folder: Path) -> LedgerProcess:
    return LedgerProcess(folder / "data", log=folder / "log")


async def wait_seen(prober: Prober, *, answered: bool, in_a_row: int) -> float:
    async def is_so() -> bool:
        tail = prober.seen()["eu-west"].recent[-in_a_row:]
        return len(tail) == in_a_row and all(was is answered for was in tail)

    return await wait_until(is_so, f"{in_a_row} probes with answered={answered}", every_s=0.01)


def test_a_probe_writes_and_leaves_no_more_than_an_asset(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with probed(make_ledger(tmp_path)) as (prober, url):
            await wait_seen(prober, answered=True, in_a_row=8)
            seen = prober.seen()["eu-west"]
            assert seen.latency_ms is not None
            assert seen.latency_ms > 0
            assert seen.reason == ""
            async with httpx.AsyncClient(base_url=url) as http:
                platform = (await http.get("/v1/platform")).json()
            assert platform["assets"] == [PROBE_ASSET]
            assert platform["accounts"] == 0
            assert platform["position"] >= 8

    asyncio.run(scenario())


def test_a_ledger_that_hangs_is_not_answering_and_then_is_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        ledger = make_ledger(tmp_path)
        async with probed(ledger) as (prober, _):
            await wait_seen(prober, answered=True, in_a_row=4)
            assert ledger.pid is not None
            os.kill(ledger.pid, signal.SIGSTOP)
            await wait_seen(prober, answered=False, in_a_row=2)
            seen = prober.seen()["eu-west"]
            assert seen.reason == "no answer within 0.3 s"
            assert seen.failing_s > 0
            os.kill(ledger.pid, signal.SIGCONT)
            await wait_seen(prober, answered=True, in_a_row=4)
            assert prober.changed.is_set()

    asyncio.run(scenario())


def test_a_ledger_that_is_gone_is_not_answering(tmp_path: Path) -> None:
    async def scenario() -> None:
        ledger = make_ledger(tmp_path)
        async with probed(ledger) as (prober, _):
            await wait_seen(prober, answered=True, in_a_row=2)
            ledger.kill()
            await wait_seen(prober, answered=False, in_a_row=2)
            assert "ConnectError" in prober.seen()["eu-west"].reason

    asyncio.run(scenario())
