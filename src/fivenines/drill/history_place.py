"""Three regions with history: in each a member of etcd, a node and a historian, as processes on this machine.

Each region has an archive of its own: two in object stores that speak S3, one in a folder. And each has history in SQL:
one in PostgreSQL, two in files of SQLite.
"""

import asyncio
from pathlib import Path

from fivenines.drill.members import ELECTION_MS, HEARTBEAT_MS, REGION_NAMES, Cluster, make_cluster
from fivenines.drill.object_store import S3Server
from fivenines.drill.postgres import PostgresServer
from fivenines.drill.supervise import LedgerProcess, Ready
from fivenines.journal.etcd import EtcdJournalSettings, found
from fivenines.platform.local.dying import dying_with_us

__all__ = ["HistoryPlace"]


class HistoryPlace:
    """Three regions, their historians, and two object stores.

    Args:
        folder: where data and logs go.
        tail_mib: what the journal keeps.
        snapshot_every: after how many commands nodes and historians write snapshots.
        archives_of: another place, whose object stores and folder this one goes on with.
        with_postgres: whether the first region's history in SQL is in PostgreSQL.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tail_mib: int = 16,
        snapshot_every: int = 100_000,
        archives_of: "HistoryPlace | None" = None,
        with_postgres: bool = False,
    ) -> None:
        self.folder = folder
        self.cluster: Cluster = make_cluster(folder / "etcd", heartbeat_ms=HEARTBEAT_MS, election_ms=ELECTION_MS)
        for member in self.cluster.members:
            member.before = dying_with_us()
        self.servers: list[S3Server] = []
        if archives_of is None:
            self.servers = [
                S3Server(folder / f"s3-{name}", env=f"HISTORY_{number}", before=dying_with_us())
                for number, name in enumerate(REGION_NAMES[:2])
            ]
            self.archives = [*(server.url() for server in self.servers), str(folder / "archive")]
        else:
            self.archives = archives_of.archives
        self.postgres = PostgresServer("-c fsync=off") if with_postgres else None  # power is never cut here
        self.databases = [f"sqlite:///{(folder / region).absolute()}-history.db" for region in REGION_NAMES[:3]]
        if self.postgres is not None:
            self.postgres.start()
            self.databases[0] = self.postgres.new_database()
        self.nodes: list[LedgerProcess] = []
        self.historians: list[LedgerProcess] = []
        endpoints = self.cluster.endpoints
        for number, region in enumerate(REGION_NAMES[:3]):
            journal = ("--journal", "etcd://" + ",".join((*endpoints[number:], *endpoints[:number])))
            tail = ("--keep-tail", str(tail_mib), "--snapshot-every", str(snapshot_every))
            self.nodes.append(
                LedgerProcess(
                    folder / region,
                    log=folder / f"{region}.log",
                    options=(*journal, "--region", region, "--name", f"{region}-1", *tail),
                    name=f"{region}-1",
                )
            )
            peers = [url for url in self.archives if url != self.archives[number]]
            self.historians.append(
                LedgerProcess(
                    folder / f"{region}-history",
                    log=folder / f"{region}-history.log",
                    options=(
                        *(*journal, "--region", region, "--name", f"{region}-history", "--seal-s", "1"),
                        *("--snapshot-every", str(snapshot_every), "--segment-mib", "1"),
                        *("--archive", self.archives[number], "--sql", self.databases[number]),
                        *(option for url in peers for option in ("--peer", url)),
                    ),
                    name=f"{region}-history",
                    command="historian",
                )
            )
        self.urls: list[str] = []
        self.historian_urls: list[str] = []

    async def start(self) -> None:
        """Start all of it, and found the journal."""
        self.cluster.start()
        for server in self.servers:
            await asyncio.to_thread(server.start)
        await asyncio.to_thread(self.cluster.wait_ready)
        await found(EtcdJournalSettings(endpoints=self.cluster.endpoints))
        await self.start_on_founded()

    async def start_on_founded(self) -> None:
        """Start nodes and historians, on a journal that is there."""
        ready: list[Ready] = await asyncio.gather(*(node.start() for node in self.nodes))
        self.urls = [each.url for each in ready]
        kept = await asyncio.gather(*(each.start() for each in self.historians))
        self.historian_urls = [each.url for each in kept]

    async def discard(self) -> None:
        """Leave no process behind."""
        await asyncio.gather(*(each.discard() for each in (*self.historians, *self.nodes)))
        for server in self.servers:
            server.kill()
        if self.postgres is not None:
            self.postgres.discard()
        self.cluster.kill()
