"""A whole platform under load, one of its nodes killed meanwhile: everybody tells the same, and the checker agrees.

Then one thing is changed in what was told, and the checker does not agree any more: it has looked at what was gathered.
"""

import asyncio
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from fivenines.drill.checker import Evidence, Sampling, Told, gather, judge, places_of
from fivenines.drill.drills.clients import plan_for
from fivenines.drill.load.plan import Plan
from fivenines.drill.load.running import RunningLoad
from fivenines.drill.load.shapes import Steady
from fivenines.drill.running import RunningPlatform
from fivenines.ledger import Posting
from tests.e2e.platforms import played

pytestmark = [pytest.mark.alone, pytest.mark.timeout(300)]

RATE_PER_S = 30.0
KILL_AFTER_S = 4.0
ASK_FOR_S = 12.0


async def told_of(platform: RunningPlatform) -> Evidence:
    """Ask under load, kill a node meanwhile, and hear everybody in the end."""
    clients = plan_for(platform.topology, rate_per_s=RATE_PER_S)
    plan = Plan(url=clients.url, nameservers=clients.nameservers, shape=Steady(rate_per_s=RATE_PER_S), seed=7)
    load = RunningLoad(plan, platform.folder / "load.log")
    nodes = places_of(platform.topology).nodes
    try:
        async with Sampling(nodes, every_s=1.0) as sampling:
            await load.start()
            await load.wait_ended(time.monotonic() + KILL_AFTER_S)
            await platform.signal(min(nodes), signal.SIGKILL)
            await asyncio.sleep(ASK_FOR_S - KILL_AFTER_S)
            await load.stop()
            await wait_ready(platform, min(nodes))
        return await gather(platform, load.asked, samples=sampling.said)
    finally:
        await load.discard()


async def wait_ready(platform: RunningPlatform, workload: str) -> None:
    """Wait until it runs again: it cannot be heard before."""
    async with asyncio.timeout(90):
        while (await platform.workload(workload)).state != "ready":  # noqa: ASYNC110 - nobody tells when it is
            await asyncio.sleep(0.1)


def test_everybody_tells_the_same(tmp_path: Path) -> None:
    with played(tmp_path / "platform") as on:
        evidence = on.do(told_of(on.platform))
    judgement = judge(evidence)
    assert not judgement.findings, str(judgement)
    assert judgement.is_good
    assert all(each.is_kept for each in judgement.guarantees)
    assert judgement.failed == 0, [each.error for each in evidence.asked if each.error]
    assert judgement.acknowledged > 100
    # Everybody was heard: three regions' nodes, with samples from before the kill on, histories, archives.
    regions = len(evidence.archives)
    assert regions == 3
    assert len(evidence.sql) == regions
    assert len(evidence.feeds) == len({each.node for each in evidence.nodes}) + regions
    assert len(evidence.nodes) > len(evidence.feeds)
    assert all(sql.balances for sql in evidence.sql.values())
    assert {each.kind for each in evidence.asked} == {"post", "hold", "settle", "release", "read", "total"}
    check_that_it_has_looked(evidence)


def raised(told: Told) -> Told:
    """Tell of a thousand more in each posting."""
    postings = tuple(Posting(each.source, each.destination, each.amount + 1_000) for each in told.postings or ())
    return told._replace(postings=postings)


def check_that_it_has_looked(evidence: Evidence) -> None:
    """A journal that had lost its end, or an amount that was another: nobody agrees any more."""
    histories = [
        *(feed.events for feed in evidence.feeds.values()),
        *(sql.transactions for sql in evidence.sql.values()),
    ]
    assert all(each.postings is not None for told in histories for each in told)
    assert all(each.effects is not None for sql in evidence.sql.values() for each in sql.transactions)
    for name, feed in evidence.feeds.items():
        liar = replace(feed, events=[raised(each) for each in feed.events])
        found = judge(replace(evidence, feeds={**evidence.feeds, name: liar}))
        assert found.counts["history differs"] == sum(bool(each.amount) for each in feed.events) > 0, name
    for name, sql in evidence.sql.items():
        liars = replace(sql, transactions=[raised(each) for each in sql.transactions])
        found = judge(replace(evidence, sql={**evidence.sql, name: liars}))
        assert found.counts["history differs"] == sum(bool(each.amount) for each in sql.transactions) > 0, name
    shorter = judge(replace(evidence, frames=evidence.frames[: evidence.until - 1], until=0))
    assert shorter.counts["books differ"] >= len({each.node for each in evidence.nodes})
    victim = next(each for each in evidence.asked if each.outcome == "posted")
    for name, archive in evidence.archives.items():
        assert archive.digests[victim.position], name
    victim.amount += 1
    assert judge(evidence).counts["altered"] == 1
