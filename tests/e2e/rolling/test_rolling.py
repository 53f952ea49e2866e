"""A platform is rolled from one release to the next under load, one node at a time, and then takes the new rules.

Two releases are really installed and run side by side. At no moment do two nodes hold different states, and no request
fails; what not every node can do is refused, with the reason.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from fivenines import AsyncLedger
from fivenines.api import Posting
from fivenines.client import LedgerError
from fivenines.drill.members import make_cluster, running
from fivenines.drill.supervise import LedgerFailedError, LedgerProcess
from fivenines.ids import IdMaker, as_text
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings, found
from fivenines.ledger import Activate, Batch, encode
from fivenines.node import snapshots
from tests.e2e.rolling.next_version import FIELD, NEXT_RULES, NEXT_VERSION
from tests.integration.etcd.clusters import need_etcd

pytestmark = pytest.mark.alone

HOSTS = ("127.0.1.1", "127.0.2.1", "127.0.3.1")
REGIONS = ("eu-west", "eu-north", "us-east")
LAUNCHER = Path(__file__).with_name("launcher.py")


class Platform:
    """Three members, three nodes, and what was seen of them."""

    def __init__(self, folder: Path, endpoints: tuple[str, ...], releases: dict[str, Path]) -> None:
        self.folder = folder
        self.endpoints = endpoints
        self.releases = releases
        self.ports = [0, 0, 0]
        self.urls = ["", "", ""]
        self.nodes: list[LedgerProcess | None] = [None, None, None]
        self.http = httpx.AsyncClient(timeout=20.0, trust_env=False)
        self.seen: defaultdict[int, set[tuple[int, str]]] = defaultdict(set)
        """By position, which node told which digest over all outcomes."""

    def process(self, number: int, release: str, *, name: str = "") -> LedgerProcess:
        nearest_first = ",".join((*self.endpoints[number:], *self.endpoints[:number]))
        name = name or f"{REGIONS[number]}-1"
        return LedgerProcess(
            self.folder / name,
            log=self.folder / f"{name}.log",
            options=(
                *("--host", HOSTS[number], "--journal", f"etcd://{nearest_first}"),
                *("--region", REGIONS[number], "--name", name, "--snapshot-every", "500"),
                *(("--port", str(self.ports[number])) if self.ports[number] and name.endswith("-1") else ()),
            ),
            program=(str(LAUNCHER), str(self.releases[release])),
            name=name,
        )

    async def roll(self, number: int, release: str) -> None:
        """Stop a node cleanly, if it runs, and start another release in its place."""
        if (node := self.nodes[number]) is not None:
            await node.stop()
        node = self.nodes[number] = self.process(number, release)
        ready = await node.start()
        self.urls[number], self.ports[number] = ready.url, int(ready.url.rpartition(":")[2])

    async def platform(self, number: int, *, at_least: int = 0) -> dict[str, Any]:
        answer = await self.http.get(f"{self.urls[number]}/v1/platform", params={"at_least": at_least})
        answer.raise_for_status()
        found: dict[str, Any] = answer.json()
        return found

    async def watch(self) -> None:
        """Ask all nodes at once, again and again, where they are and what they have decided up to there."""
        while True:
            for number in range(len(self.urls)):
                with suppress(httpx.HTTPError):
                    said = await self.platform(number)
                    self.seen[said["position"]].add((number, said["outcomes_digest"]))
            await asyncio.sleep(0.02)

    async def activate(self, number: int, version: int) -> httpx.Response:
        return await self.http.post(f"{self.urls[number]}/v1/platform/rules", json={"version": version})

    async def post_with_field(self, number: int) -> httpx.Response:
        id = as_text(IdMaker().numbers(1)[0].to_bytes(16))
        posting = {"source": "bank", "destination": "till", "amount": 1}
        return await self.http.post(
            f"{self.urls[number]}/v1/transactions", json={"id": id, "postings": [posting], FIELD: "card"}
        )

    async def outcome_ahead(self, number: int) -> str:
        """Post what would be refused, with an id from two minutes ahead, which only the rules of now bear with."""
        id = as_text(IdMaker(clock_ms=lambda: time.time_ns() // 1_000_000 + 120_000).numbers(1)[0].to_bytes(16))
        posting = {"source": "till", "destination": "till", "amount": 1}
        body = [{"id": id, "postings": [posting]}]
        answer = await self.http.post(f"{self.urls[number]}/v1/transactions", json=body)
        outcome: str = answer.json()[0]["outcome"]
        return outcome


class Load:
    """Clients of each node who move money in all the ways that there are, one move after another, until stopped."""

    def __init__(self, urls: list[str]) -> None:
        self.posted = 0
        self.failed: list[LedgerError] = []
        self._running = True
        self._turns = [asyncio.Lock() for _ in range(6)]
        self._tasks = [
            asyncio.create_task(self._post([*urls[n % 3 :], *urls[: n % 3]], turn))
            for n, turn in enumerate(self._turns)
        ]

    async def _post(self, urls: list[str], turn: asyncio.Lock) -> None:
        async with AsyncLedger(*urls, deadline_s=60.0) as ledger:
            while self._running:
                async with turn:
                    try:
                        await _move(ledger, self.posted % 4)
                    except LedgerError as error:
                        self.failed.append(error)
                    else:
                        self.posted += 1

    async def go_on(self, more: int = 150) -> None:
        """Wait until so many more are acknowledged."""
        wanted = self.posted + more
        while self.posted < wanted:
            assert not self.failed, self.failed[0]
            await asyncio.sleep(0.01)

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """All that was sent is answered, and nothing is sent."""
        for turn in self._turns:
            await turn.acquire()
        try:
            yield
        finally:
            for turn in self._turns:
                turn.release()

    async def stop(self) -> None:
        self._running = False
        await asyncio.gather(*self._tasks)


@asynccontextmanager
async def platform_of(folder: Path, releases: dict[str, Path]) -> AsyncIterator[Platform]:
    need_etcd()
    with running(make_cluster(folder / "etcd", hosts=HOSTS, heartbeat_ms=20, election_ms=200)) as cluster:
        platform = Platform(folder, cluster.endpoints, releases)
        await found(EtcdJournalSettings(endpoints=cluster.endpoints))
        try:
            yield platform
        finally:
            await platform.http.aclose()
            for node in platform.nodes:
                if node is not None:
                    await node.discard()


@pytest.mark.timeout(400)
def test_a_platform_is_rolled_under_load_and_takes_new_rules(tmp_path: Path, releases: dict[str, Path]) -> None:
    async def main() -> None:
        async with platform_of(tmp_path, releases) as platform:
            for number in range(3):
                await platform.roll(number, "present")
            async with AsyncLedger(*platform.urls) as ledger:
                await ledger.create_asset("EUR/2")
                await ledger.open_account("bank", asset="EUR/2", min_balance=None)
                for account in ("customer", "till"):
                    await ledger.open_account(account, asset="EUR/2")
            watching = asyncio.create_task(platform.watch())
            load = Load(platform.urls)
            await load.go_on()
            await _compare(platform, load)

            await platform.roll(0, "next")
            await load.go_on()
            await _compare(platform, load)
            # Both releases serve. What only the next one knows is refused by either, with the reason.
            by_next, by_present = await platform.post_with_field(0), await platform.post_with_field(1)
            assert (by_next.status_code, by_next.json()["type"]) == (409, "/problems/rules_not_in_force")
            assert by_next.json()["field"] == f"$.{FIELD}"
            assert by_next.json()["detail"] == "it needs rules 2, and rules 1 are in force"
            assert (by_present.status_code, by_present.json()["type"]) == (422, "/problems/invalid_request")
            refused = await platform.activate(0, NEXT_RULES)
            assert (refused.status_code, refused.json()["type"]) == (409, "/problems/rules_not_runnable")
            assert "cannot be run by eu-north-1, us-east-1" in refused.json()["detail"]
            assert "cannot be run by" in (await platform.activate(1, NEXT_RULES)).json()["detail"]
            assert [await platform.outcome_ahead(number) for number in range(3)] == ["same_account"] * 3
            await load.go_on()

            # There is a way back as long as the rules are the old ones.
            await platform.roll(0, "present")
            await load.go_on()
            await _compare(platform, load)
            for number in range(3):
                await platform.roll(number, "next")
                await load.go_on()
                await _compare(platform, load)
                assert (await platform.platform(number))["version"] == NEXT_VERSION

            await _wait_told(platform)
            activated = await platform.activate(1, NEXT_RULES)
            assert activated.status_code == 200, activated.text
            since = activated.json()["position"]
            again = await platform.activate(2, NEXT_RULES)
            assert (again.status_code, again.json()["version"]) == (200, NEXT_RULES)
            for number in range(3):
                said = await platform.platform(number, at_least=since)
                assert said["rules"] == NEXT_RULES
                assert await platform.outcome_ahead(number) == "id_in_future"
                assert (await platform.post_with_field(number)).status_code == 200
            await load.go_on()
            await _compare(platform, load, tills=3)
            await load.stop()
            watching.cancel()
            # Many a time two nodes were asked at the same position under load; never did they say different things.
            assert any(len({node for node, _ in told}) > 1 for told in platform.seen.values())
            assert [told for told in platform.seen.values() if len({digest for _, digest in told}) > 1] == []
            for node in platform.nodes:
                assert node is not None
                await node.stop()
            newest = [snapshots.paths(tmp_path / f"{region}-1")[0] for region in REGIONS]
            assert {path.name for path in newest} == {newest[0].name}
            assert {snapshots.digest_of(path) for path in newest} == {snapshots.digest_of(newest[0])}
            logs = "".join((tmp_path / f"{region}-1.log").read_text() for region in REGIONS)
            assert "node.out_of_service" not in logs
            assert "Traceback" not in logs

            # Whoever starts the release before once more finds out: from a snapshot, and from the journal alone.
            for name in ("eu-west-1", "eu-west-late"):
                late = platform.process(0, "present", name=name)
                with pytest.raises(LedgerFailedError, match="activated rules 2; this release runs") as refusal:
                    await late.start()
                assert "it takes a newer release" in str(refusal.value)

    asyncio.run(main())


async def _move(ledger: AsyncLedger, way: int) -> None:
    """Move 1 from the bank to the customer: in the short form of a frame mostly, and in the long ones."""
    match way:
        case 0:
            await ledger.post(source="bank", destination="customer", amount=1, reference="rent")
        case 1:
            hold = await ledger.hold([Posting("bank", "customer", 2)])
            await ledger.settle(hold.id, postings=[Posting("bank", "customer", 1)])
        case _:
            await ledger.post(source="bank", destination="customer", amount=1)


async def _compare(platform: Platform, load: Load, *, tills: int = 0) -> None:
    """In a quiet moment all nodes are at one position with one digest, and hold what was acknowledged, exactly once."""
    async with load.paused():
        assert load.failed == []
        end = max([(await platform.platform(number))["position"] for number in range(3)])
        said = [await platform.platform(number, at_least=end) for number in range(3)]
        assert {(each["position"], each["outcomes_digest"]) for each in said} == {(end, said[0]["outcomes_digest"])}
        for url in platform.urls:
            accounts = (await platform.http.get(f"{url}/v1/accounts?ids=bank,customer,till")).json()["accounts"]
            assert [each["balance"] for each in accounts] == [-load.posted - tills, load.posted, tills]


async def _wait_told(platform: Platform) -> None:
    """Wait until the last node that was rolled has let the others know."""
    while True:
        nodes = (await platform.platform(1))["nodes"]
        if all(NEXT_RULES in node["rules"] for node in nodes):
            return
        await asyncio.sleep(0.1)


def test_a_node_that_was_not_asked_stops_where_rules_come_in_force_that_it_cannot_run(
    tmp_path: Path, releases: dict[str, Path]
) -> None:
    """As one would that was silent while they were activated: it ends, and says why, instead of guessing."""

    async def main() -> None:
        async with platform_of(tmp_path, releases) as platform:
            await platform.roll(0, "present")
            journal = await EtcdJournal.open(EtcdJournalSettings(endpoints=platform.endpoints))
            try:
                await journal.append(encode(Batch(bytes(16), 1, 0, [Activate(NEXT_RULES)])))
            finally:
                await journal.close()
            node = platform.nodes[0]
            assert node is not None
            assert await node.wait() != 0
            log = (tmp_path / "eu-west-1.log").read_text()
            assert "activated rules 2; this release runs" in log
            assert "Traceback" not in log

    asyncio.run(main())


def test_the_releases_that_are_compared_are_two(releases: dict[str, Path]) -> None:
    async def version(folder: Path) -> str:
        import sys

        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(LAUNCHER), str(folder), "--version"), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await process.communicate()
        return said.decode().strip()

    async def main() -> None:
        assert await version(releases["present"]) == "fivenines 0.1.0"
        assert await version(releases["next"]) == f"fivenines {NEXT_VERSION}"

    asyncio.run(main())
