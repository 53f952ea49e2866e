"""A historian on a real journal: away and back, without its disk, with a store that is away, with the wrong archive."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from fivenines.api import NewAccount, NewTransaction, Posting
from fivenines.client import AsyncLedger
from fivenines.drill.members import Cluster, make_cluster
from fivenines.drill.object_store import S3Server
from fivenines.drill.supervise import LedgerProcess
from fivenines.historian.restoring import Target, restore
from fivenines.journal.archive import ArchiveError, catalogue_of, gaps, open_store
from fivenines.journal.etcd import EtcdJournalSettings, found
from fivenines.node import snapshots
from fivenines.platform.local.dying import dying_with_us
from tests.integration.etcd.clusters import need_etcd

ACCOUNTS = 20


class Place:
    """One member, one node, and historians as they are wanted."""

    def __init__(self, folder: Path, cluster: Cluster, *options: str) -> None:
        self.folder = folder
        self.journal = ("--journal", "etcd://" + ",".join(cluster.endpoints), "--region", "here")
        self.node = LedgerProcess(
            folder / "node",
            log=folder / "node.log",
            options=(*self.journal, "--name", "node", "--snapshot-every", "5000", *options),
        )
        self.url = ""
        self.historians: list[LedgerProcess] = []

    def historian(self, name: str, *archives: str, copies: int = 1, sql: str = "") -> LedgerProcess:
        database = ("--sql", sql) if sql else ()
        stores = [option for url in archives for option in ("--archive", url)]
        made = LedgerProcess(
            self.folder / name,
            log=self.folder / f"{name}.log",
            options=(*self.journal, "--name", name, "--seal-s", "0.2", "--copies", str(copies), *stores, *database),
            name=name,
            command="historian",
        )
        self.historians.append(made)
        return made

    async def post(self, requests: int, items: int = 10) -> int:
        """Post one request after another, so that each makes a frame; return the position."""
        async with AsyncLedger(self.url, deadline_s=20.0) as ledger:
            some = [Posting(f"a:{n % ACCOUNTS}", f"a:{(n + 1) % ACCOUNTS}", 1 + n) for n in range(items)]
            for _ in range(requests):
                await ledger.submit([NewTransaction(postings=[each]) for each in some])
            return ledger.position

    async def platform(self) -> dict[str, Any]:
        async with httpx.AsyncClient(base_url=self.url, trust_env=False) as http:
            found: dict[str, Any] = (await http.get("/v1/platform")).json()
            return found


@asynccontextmanager
async def place_of(folder: Path, *options: str) -> AsyncIterator[Place]:
    need_etcd()
    cluster = make_cluster(folder / "etcd", members=1)
    for member in cluster.members:
        member.before = dying_with_us()
    place = Place(folder, cluster, *options)
    try:
        cluster.start()
        await asyncio.to_thread(cluster.wait_ready)
        await found(EtcdJournalSettings(endpoints=cluster.endpoints))
        place.url = (await place.node.start()).url
        async with AsyncLedger(place.url) as ledger:
            await ledger.create_asset("EUR/2")
            await ledger.open_accounts([NewAccount(f"a:{n}", "EUR/2", min_balance=None) for n in range(ACCOUNTS)])
        yield place
    finally:
        for process in (*place.historians, place.node):
            await process.discard()
        cluster.kill()


async def status_when(url: str, is_so: Any, *, patience_s: float = 60.0) -> dict[str, Any]:
    """Return how a historian is, once it is so."""
    status: dict[str, Any] = {}
    async with asyncio.timeout(patience_s), httpx.AsyncClient(base_url=url, trust_env=False) as http:
        while True:
            with contextlib.suppress(httpx.HTTPError):
                status = (await http.get("/v1/historian")).json()
                if is_so(status):
                    return status
            await asyncio.sleep(0.1)


def archived(position: int) -> Any:
    return lambda status: (
        all(store["archived"] >= position for store in status["stores"])
        and not status["spool_bytes"]
        and status["position"] >= position
    )


def node_digest(place: Place) -> bytes:
    return snapshots.load(snapshots.paths(place.node.data)[0]).state_digest


def test_a_historian_without_its_disk_goes_on_from_the_archive(tmp_path: Path) -> None:
    async def main() -> tuple[int, bytes]:
        async with place_of(tmp_path) as place:
            store = str(tmp_path / "archive")
            first = place.historian("first", store)
            url = (await first.start()).url
            await status_when(url, archived(await place.post(20)))
            first.kill()
            await first.wait()
            shutil.rmtree(first.data)
            position = await place.post(20)
            second = place.historian("second", store)
            status = await status_when((await second.start()).url, archived(position))
            assert status["gaps"] == 0
            await second.stop()
            await place.node.stop()
            return position, node_digest(place)

    position, digest = asyncio.run(main())
    listed = catalogue_of(open_store(str(tmp_path / "archive")))
    assert gaps(list(listed.segments)) == []
    restored = restore([open_store(str(tmp_path / "archive"))], Target(), tmp_path)
    assert (restored.state.position, restored.state_digest, restored.begun_at) == (position, digest, 0)


def test_what_is_killed_while_it_seals_leaves_no_gap_and_claims_nothing_that_is_not_there(tmp_path: Path) -> None:
    async def main() -> bytes:
        async with place_of(tmp_path) as place:
            historian = place.historian("history", str(tmp_path / "archive"))
            posting = asyncio.create_task(place.post(300))
            claimed = 0
            while not posting.done():
                url = (await historian.start()).url
                status = await status_when(url, lambda status: status["sealed"] > 0)
                claimed = status["sealed"]
                await asyncio.sleep(0.3)
                historian.kill()
                await historian.wait()
                held = [*catalogue_of(open_store(str(historian.data / "spool"))).segments]
                held += catalogue_of(open_store(str(tmp_path / "archive"))).segments
                assert gaps(held) == []
                assert max(name.last for name in held) >= claimed
            await status_when((await historian.start()).url, archived(await posting))
            await historian.stop()
            await place.node.stop()
            return node_digest(place)

    digest = asyncio.run(main())
    assert restore([open_store(str(tmp_path / "archive"))], Target(), tmp_path).state_digest == digest


def test_a_store_that_is_away_makes_the_spool_grow_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> bytes:
        server = S3Server(tmp_path / "s3", env="ALONE_TEST", before=dying_with_us())
        server.start()
        try:
            async with place_of(tmp_path) as place:
                historian = place.historian("history", server.url(), str(tmp_path / "archive"), copies=2)
                url = (await historian.start()).url
                await status_when(url, archived(await place.post(20)))
                server.kill()
                position = await place.post(50)
                await status_when(url, lambda status: status["sealed"] >= position)
                status = await status_when(url, lambda status: status["stores"][0]["problem"] is not None)
                assert status["spool_bytes"] > 0
                away, folder = status["stores"]
                assert "cannot" in away["problem"]
                assert away["archived"] == position  # it is on our disk, in our region
                await status_when(url, lambda status: status["stores"][1]["archived"] >= position)
                assert folder["problem"] is None
                # Neither does a start need the store.
                historian.kill()
                await historian.wait()
                url = (await historian.start()).url
                position = await place.post(10)
                await status_when(url, lambda status: status["sealed"] >= position)
                server.start()
                await status_when(url, archived(position))
                # And when nothing waits at all, it remembers where it was.
                historian.kill()
                await historian.wait()
                server.kill()
                url = (await historian.start()).url
                assert (await status_when(url, lambda status: status["sealed"] > 0))["sealed"] >= position
                position = await place.post(10)
                await status_when(url, lambda status: status["sealed"] >= position)
                server.start()
                await status_when(url, archived(position))
                await historian.stop()
                await place.node.stop()
                names = sorted(catalogue_of(open_store(server.url())).segments)
                assert all(after.first == before.last + 1 for before, after in pairwise(names))
                both = [open_store(server.url()), open_store(str(tmp_path / "archive"))]
                digests = {restore([store], Target(), tmp_path).state_digest for store in both}
                assert digests == {node_digest(place)}
                return digests.pop()
        finally:
            server.kill()

    assert len(asyncio.run(main())) == 32


def test_another_journal_s_archive_is_refused_and_stays_as_it_is(tmp_path: Path) -> None:
    async def main() -> tuple[str, int]:
        async with place_of(tmp_path / "one") as place:
            historian = place.historian("history", str(tmp_path / "archive"))
            url = (await historian.start()).url
            await status_when(url, archived(await place.post(30)))
            await historian.stop()
        before = len(catalogue_of(open_store(str(tmp_path / "archive"))).segments)
        async with place_of(tmp_path / "two") as place:
            await place.post(40)
            historian = place.historian("history", str(tmp_path / "archive"))
            status = await status_when(
                (await historian.start()).url, lambda status: "frame" in (status["problem"] or "")
            )
            assert len(catalogue_of(open_store(str(tmp_path / "archive"))).segments) == before
            return status["problem"], before

    problem, before = asyncio.run(main())
    assert "does not follow" in problem
    assert before > 0


def test_the_journal_waits_for_the_archive_and_in_the_end_money_comes_first(tmp_path: Path) -> None:
    """With a tail of 1 MiB, frames wait for the archive up to 2 MiB; then they go, and history has a gap."""

    async def main() -> tuple[int, int, bytes]:
        async with place_of(tmp_path, "--keep-tail", "1") as place:
            historian = place.historian("history", str(tmp_path / "archive"))
            url = (await historian.start()).url
            await status_when(url, archived(await place.post(30)))
            historian.kill()
            await historian.wait()
            last = max(name.last for name in catalogue_of(open_store(str(tmp_path / "archive"))).segments)
            log = tmp_path / "node.log"
            await place.post(1_300, items=15)  # above the tail that it should keep, below what it bears
            assert (await platform_is(place, lambda _found: True))["journal_first"] == 1
            while "journal.trimmed_unarchived" not in log.read_text():
                await place.post(100, items=40)
            first = (await platform_is(place, lambda found: found["journal_first"] > 1))["journal_first"]
            assert first > last + 1
            url = (await historian.start()).url
            status = await status_when(url, archived(await place.post(20)))
            assert status["gaps"] == 1
            # History goes on after the gap: a snapshot is there to restore from.
            position = await place.post(20)
            await status_when(url, lambda status: archived(position)(status) and status["snapshots"] > 0)
            await historian.stop()
            await place.node.stop()
            return last, position, node_digest(place)

    last, position, digest = asyncio.run(main())
    store = open_store(str(tmp_path / "archive"))
    restored = restore([store], Target(), tmp_path)
    assert (restored.state.position, restored.state_digest) == (position, digest)
    assert restore([store], Target(position=last), tmp_path).state.position == last
    with contextlib.suppress(ArchiveError):
        raise AssertionError(restore([store], Target(position=last + 1), tmp_path))


async def platform_is(place: Place, is_so: Any) -> dict[str, Any]:
    async with asyncio.timeout(60.0):
        while True:
            found = await place.platform()
            if is_so(found):
                return found
            await asyncio.sleep(0.1)
