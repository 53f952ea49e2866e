"""What a drill can look at: the probes of ours that a steady-state hypothesis is made of.

A probe is a function in Python; the module is `fivenines.drill.drills.probes`, and `func` one of those below. Those of
what clients see count from the beginning of the drill. A probe that says something only of a platform at rest is not
looked at while the drill goes on (`at_rest`).
"""

import asyncio
import re
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import dns.asyncquery
import dns.exception
import dns.message
import dns.rdatatype
import httpx
import msgspec

from fivenines.client import AsyncLedger, LedgerError
from fivenines.control.budget import YEAR_S
from fivenines.drill.drills.measuring import longest_pause_s
from fivenines.drill.drills.scene import Scene
from fivenines.drill.faults.certificates import front_of
from fivenines.drill.load.asked import SLOW_S, Asked
from fivenines.drill.running import PlatformFailedError, RunningPlatform
from fivenines.ids import as_text, new_id
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.topology import PORTS

__all__ = [
    "acknowledged_readable",
    "answered_by_tls",
    "at_rest",
    "availability",
    "budget_left",
    "budget_used",
    "failed_plain_requests",
    "failed_requests",
    "failed_tries",
    "fault_fact",
    "is_at_rest",
    "late_now",
    "logged",
    "longest_pause",
    "lost_just_now",
    "lowest_position",
    "p99",
    "percentile",
    "platform_whole",
    "positions_agree",
    "reads_answered",
    "refused_requests",
    "regions_named",
    "requests_answered",
    "write_answer",
]

_LOOK_S = 0.2
_ASK_S = 2.0
_SAMPLE = 20
_FIRST = 3
_DNS_TRIES = 3
"""As resolvers do: one packet may be lost."""

F = TypeVar("F", bound=Callable[..., Any])


def at_rest(probe: F) -> F:
    """Mark a probe that is looked at before and after, and not while the drill goes on."""
    probe.at_rest = True  # type: ignore[attr-defined]
    return probe


def is_at_rest(probe: Callable[..., Any]) -> bool:
    """Whether it is one of those."""
    return bool(getattr(probe, "at_rest", False))


# --- what clients see -------------------------------------------------------------------------------------------------


def failed_requests(scene: Scene) -> int:
    """How many requests failed: given up, and not because the ledger said clearly that it does nothing."""
    return sum(1 for each in scene.since_began() if each.error and not each.is_refused)


def failed_tries(scene: Scene) -> int:
    """How many tries failed: an answer of 500 or more, or none. The client library gets over them; others do not."""
    return sum(each.failed_tries for each in scene.since_began())


def failed_plain_requests(scene: Scene) -> dict[str, Any]:
    """What clients met that are without our library: how many `failed` and were `answered`, and the `first` failures.

    Raises ValueError: the drill has none, see `plain_clients`.
    """
    plain = scene.plain
    if not plain.each:
        raise ValueError("there are no clients without our library: say how many in extensions, as plain_clients")
    return {"failed": len(plain.failures), "answered": plain.answered, "first": plain.failures[:_FIRST]}


def refused_requests(scene: Scene) -> int:
    """How many requests were turned away with a clear answer, and are surely not done."""
    return sum(1 for each in scene.since_began() if each.is_refused)


def requests_answered(scene: Scene) -> int:
    """How many requests were answered: a drill in which nobody asks shows nothing."""
    return sum(1 for each in scene.since_began() if not each.error)


def longest_pause(scene: Scene) -> float:
    """The longest that any request waited that has ended, in seconds, from when it was due.

    One that waits still counts as soon as it ends. That nobody is answered at all is for the guard to see.
    """
    return round(longest_pause_s(scene.since_began()), 3)


def p99(scene: Scene) -> float:
    """Within how many milliseconds 99 of 100 requests were answered."""
    return round(percentile([1_000 * each.latency_s for each in scene.since_began()], 0.99), 1)


def availability(scene: Scene) -> float:
    """The share of requests that were answered, and within two seconds."""
    asked = scene.since_began()
    return round(sum(1 for each in asked if not each.is_bad) / len(asked), 6) if asked else 1.0


def budget_used(scene: Scene) -> float:
    """Seconds of the error budget that the drill used: of each second the share of requests not answered in time."""
    return round(sum(1 for each in scene.since_began() if each.is_bad) / scene.rate_per_s, 3)


def late_now(scene: Scene) -> int:
    """How many requests have waited for longer than two seconds and go on waiting, by the plan of the load.

    A request is heard of when it ends; whoever waits for that to see harm sees it when it is over.
    """
    if scene.is_over:
        return 0
    moment = time.monotonic() - SLOW_S
    wanted = int((moment - scene.began) * scene.rate_per_s)
    return max(0, wanted - 1 - sum(1 for each in scene.since_began() if each.due < moment))


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that a share of all is not above; 0 where there are none."""
    ordered = sorted(values)
    return ordered[int(share * (len(ordered) - 1))] if ordered else 0.0


# --- what the platform says -------------------------------------------------------------------------------------------


@at_rest
async def platform_whole(scene: Scene, within_s: float = 90.0) -> bool:
    """Whether every part runs and every region serves, or does within a while."""
    try:
        await scene.platform.wait_whole(within_s)
    except PlatformFailedError:
        return False
    return True


async def budget_left(scene: Scene) -> float:
    """Seconds that are left of the year's error budget, by the books of the controllers; all of it if none answers."""
    spec = scene.platform.topology.spec
    budget = (1.0 - spec.slo) * YEAR_S
    for region in scene.platform.regions:
        try:
            return round(budget - (await scene.platform.agents.view(region)).books.lost_s, 3)
        except AgentError:
            continue
    return round(budget, 3)


async def regions_named(scene: Scene) -> int:
    """How many regions clients are sent to by DNS; the answers of all nameservers that answer, together."""
    topology = scene.platform.topology
    question = dns.message.make_query(f"api.{topology.spec.zone}", dns.rdatatype.A)
    hosts = {place.host for place in topology.regions}

    async def ask(host: str) -> set[str]:
        for _ in range(_DNS_TRIES):
            try:
                answer = await dns.asyncquery.udp(question, host, port=PORTS.nameserver, timeout=1.0)
            except (OSError, dns.exception.DNSException):
                continue
            return {str(record) for each in answer.answer for record in each} & hosts
        return set()

    return len(set().union(*await asyncio.gather(*map(ask, hosts))))


@at_rest
async def positions_agree(scene: Scene, within_s: float = 10.0) -> bool:
    """Whether every node comes to the highest position that any of them has, within a while."""
    until = time.monotonic() + within_s
    async with _http() as http:
        while True:
            said = await asyncio.gather(*(_position(http, url, 0) for url in _nodes(scene)))
            if all(each is not None for each in said):
                break
            if time.monotonic() > until:
                return False
            await asyncio.sleep(_LOOK_S)
        highest = max(each for each in said if each is not None)
        left = max(1.0, until - time.monotonic())
        reached = await asyncio.gather(*(_position(http, url, highest, left) for url in _nodes(scene)))
    return all(each is not None and each >= highest for each in reached)


@at_rest
async def acknowledged_readable(scene: Scene, sample: int = _SAMPLE) -> int:
    """How many of the last acknowledged transactions cannot be read at some region."""
    done = [each for each in scene.since_began() if each.id and each.position and not each.error][-sample:]
    missing = 0
    async with _http() as http:
        for place in scene.platform.topology.regions:
            url = scene.platform.topology.edge_url(place.name)
            found = await asyncio.gather(*(_has_transaction(http, url, each) for each in done))
            missing += sum(1 for each in found if not each)
    return missing


async def lost_just_now(scene: Scene) -> int:
    """How many of a few transactions that were acknowledged a while ago a node says not to have. A quick look.

    Only a node that has come to the position of the transaction can say so; where none answers, nothing is known.
    """
    until = time.monotonic() - 1.0
    done = [each for each in scene.since_began() if each.id and each.position and each.ended < until]
    if not done:
        return 0
    asked = scene.chance_to_look.choice(done[-200:])
    urls = [scene.platform.topology.edge_url(region) for region in scene.platform.regions]
    async with _http() as http:
        return int(await _has_transaction(http, scene.chance_to_look.choice(urls), asked) is False)


async def reads_answered(scene: Scene) -> int:
    """How many regions answer a read at their edge."""
    async with _http() as http:
        urls = [scene.platform.topology.edge_url(region) for region in scene.platform.regions]
        said = await asyncio.gather(*(_position(http, url, 0) for url in urls))
    return sum(1 for each in said if each is not None)


async def answered_by_tls(scene: Scene, requests: int = 20) -> int:
    """How many of some reads fail that are made by TLS, by clients who begin at a region with a bad certificate.

    They name every region and trust the authority of the fronts that the fault `expired_certificate` puts there.
    """
    fronts = [front_of(scene.platform, region) for region in scene.platform.regions]
    trust = ssl.create_default_context(cafile=str(fronts[0].authority))
    failed = 0
    for first in range(len(fronts)):
        urls = [each.url for each in (*fronts[first:], *fronts[:first])]
        async with AsyncLedger(*urls, tls=trust, deadline_s=10.0) as ledger:
            for _ in range(requests // len(fronts) + 1):
                try:
                    await ledger.platform()
                except LedgerError:
                    failed += 1
    return failed


def fault_fact(scene: Scene, name: str, fact: str) -> float:
    """What a fault counted: a fact of the one that the action of this name began, of those that docs/faults.md lists.

    Most are known when the fault has ended: see `end_fault`. Raises ValueError: it has no such fact, or not yet.
    """
    try:
        facts = scene.facts_of(name)
    except KeyError:
        raise ValueError(f"no fault was begun by {name!r}") from None
    if fact not in facts:
        raise ValueError(f"{name!r} has no fact {fact!r}: it has {', '.join(sorted(facts)) or 'none'}")
    return facts[fact]


async def logged(scene: Scene, pattern: str) -> bool:
    """Whether the platform has logged something since the drill began."""

    def look() -> bool:
        path = scene.platform.folder / "platform.log"
        with path.open("rb") as file:
            file.seek(min(scene.log_began, path.stat().st_size))
            return re.search(pattern, file.read().decode(errors="replace")) is not None

    return await asyncio.to_thread(look)


async def write_answer(scene: Scene, timeout_s: float = 15.0) -> dict[str, Any]:
    """What a write is answered at an edge: status, headers, body; the status is 0 where no region answers anything.

    As any client would, it goes on to the next region where a connection ends without an answer; `unanswered` tells of
    how many. What it would write is refused by any ledger that can decide: it is about an account that does not exist.
    """
    body = {"id": new_id(), "postings": [{"source": "no:one", "destination": "no:body", "amount": 1}]}
    regions = scene.chance.sample(scene.platform.regions, len(scene.platform.regions))
    said = ""
    async with httpx.AsyncClient(trust_env=False, timeout=timeout_s) as http:
        for unanswered, region in enumerate(regions):
            try:
                answer = await http.post(f"{scene.platform.topology.edge_url(region)}/v1/transactions", json=body)
            except httpx.HTTPError as error:
                said = str(error) or repr(error)
                continue
            return {
                "status": answer.status_code,
                "headers": dict(answer.headers),
                "body": answer.text,
                "unanswered": unanswered,
            }
    return {"status": 0, "headers": {}, "body": said, "unanswered": len(regions)}


def _http() -> httpx.AsyncClient:
    return httpx.AsyncClient(trust_env=False, timeout=_ASK_S)


async def lowest_position(platform: RunningPlatform) -> int:
    """Return a position that every node has come to; 0 where one does not answer."""
    async with _http() as http:
        said = await asyncio.gather(*(_position(http, url, 0) for url in _urls(platform)))
    return min((each or 0 for each in said), default=0)


def _nodes(scene: Scene) -> list[str]:
    return _urls(scene.platform)


def _urls(platform: RunningPlatform) -> list[str]:
    places = platform.topology.regions
    return [f"http://{place.host}:{place.node_port(node)}" for place in places for node in place.nodes]


async def _position(http: httpx.AsyncClient, url: str, at_least: int, timeout_s: float = _ASK_S) -> int | None:
    try:
        answer = await http.get(f"{url}/v1/platform", params={"at_least": at_least}, timeout=timeout_s)
        return int(msgspec.json.decode(answer.content)["position"]) if answer.status_code == 200 else None
    except (httpx.HTTPError, msgspec.MsgspecError, KeyError):
        return None


async def _has_transaction(http: httpx.AsyncClient, url: str, asked: Asked) -> bool | None:
    """Whether a transaction is there; None where nobody can tell just now."""
    try:
        answer = await http.get(f"{url}/v1/transactions/{as_text(asked.id)}", params={"at_least": asked.position})
    except httpx.HTTPError:
        return None
    return {200: True, 404: False}.get(answer.status_code)
