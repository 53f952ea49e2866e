"""One request of a load, on a real server: everything that it is told is written down, and told apart."""

import asyncio
import socket
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from fivenines.client import AsyncLedger, Limits
from fivenines.drill.checker import Evidence, judge
from fivenines.drill.load.asked import Asked
from fivenines.drill.load.asking import NOT_FOUND, ask
from fivenines.drill.load.mix import TEST_BALANCE, Mix
from fivenines.ids import new_ids16
from fivenines.journal import show
from tests.e2e.serving import Server

T = TypeVar("T")
_NO_WAITING = Limits(try_timeout_s=0.5, connect_timeout_s=0.5)


def run(work: Coroutine[Any, Any, T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(120):
            return await work

    return asyncio.run(bounded())


def post(destination: str) -> Asked:
    return Asked(
        due=time.monotonic(),
        client=0,
        kind="post",
        id=new_ids16(1)[0],
        source="load:1:bank",
        destination=destination,
        amount=5,
    )


async def asked_of(url: str, rounds: int) -> list[Asked]:
    mix, made = Mix(3, 2), []
    async with AsyncLedger(url) as one, AsyncLedger(url) as other:
        await mix.setup(one)
        await mix.setup(other)  # the accounts are there: nothing is filled twice
        for _ in range(rounds):
            some = [mix.next(time.monotonic(), client) for client in (0, 1) * 4]
            await asyncio.gather(*(ask((one, other)[each.client], each) for each in some))
            made += some
    return made


def test_a_mix_meets_everything_that_a_ledger_can_answer_and_all_of_it_is_written_down(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        asked = run(asked_of(server.url, 120))
        server.stop()
    outcomes = {(each.kind, each.outcome) for each in asked}
    assert outcomes >= {("post", "posted"), ("hold", "held"), ("settle", "settled"), ("release", "released")}
    assert outcomes >= {("post", "insufficient_funds"), ("post", "balance_limit_exceeded")}
    assert any(outcome.startswith("hold_already") for _, outcome in outcomes), "nothing was settled twice on purpose"
    assert all(each.position > 0 and each.due <= each.sent < each.ended and not each.error for each in asked)
    totals = [each for each in asked if each.kind == "total"]
    assert {sum(each.balances.values()) for each in totals} == {TEST_BALANCE * len(totals[0].accounts)}
    # The positions are those of the answers themselves, though many were under way at once: a judge agrees with all.
    judgement = judge(Evidence(asked=asked, frames=list(show(tmp_path / "data", 1))))
    assert judgement.is_good, str(judgement)


def test_what_surely_was_not_done_is_told_from_what_may_have_been(tmp_path: Path) -> None:
    async def work(url: str) -> tuple[Asked, Asked, Asked, Asked]:
        missing = Asked(due=0.0, client=0, kind="read", destination="nobody")
        async with AsyncLedger(url) as ledger:
            await ask(ledger, missing)
        unreached, silent, wrong = post("a"), post("a"), post("no such name!")
        with socket.socket() as deaf, socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()  # takes connections, and never says anything
            for each, port in ((unreached, closed.getsockname()[1]), (silent, deaf.getsockname()[1])):
                async with AsyncLedger(f"http://127.0.0.1:{port}", deadline_s=1.0, limits=_NO_WAITING) as ledger:
                    await ask(ledger, each)
        async with AsyncLedger(url) as ledger:
            await ask(ledger, wrong)
        return missing, unreached, silent, wrong

    with Server(tmp_path / "data") as server:
        missing, unreached, silent, wrong = run(work(server.url))
    assert (missing.outcome, missing.error) == (NOT_FOUND, "")
    assert (unreached.is_undone, unreached.is_refused) == (True, False)
    assert (silent.is_undone, silent.is_refused) == (False, False)
    assert (wrong.is_undone, wrong.is_refused) == (True, True)
    assert all(each.error and not each.outcome for each in (unreached, silent, wrong))
    assert silent.tries > 0


def test_a_request_that_is_cancelled_may_have_been_done(tmp_path: Path) -> None:
    async def work() -> Asked:
        asked = post("a")
        with socket.socket() as deaf:
            deaf.bind(("127.0.0.1", 0))
            deaf.listen()
            async with AsyncLedger(f"http://127.0.0.1:{deaf.getsockname()[1]}") as ledger:
                asking = asyncio.create_task(ask(ledger, asked))
                await asyncio.sleep(0.05)
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        return asked

    asked = run(work())
    assert asked.error.startswith("given up")
    assert not asked.is_undone
    assert not asked.is_refused
    assert asked.ended >= asked.sent
