"""Journals of each kind, for tests of what all of them promise."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from fivenines.drill.members import Cluster, make_cluster, running
from fivenines.journal import FileJournal, FileJournalSettings, Journal
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings, found
from tests.integration.etcd.clusters import fresh_settings, need_etcd

PAYLOAD_BYTES_MAX = 200_000

Open = Callable[[], AbstractAsyncContextManager[Journal]]
"""Opens the test's journal, the same one each time."""


@pytest.fixture(scope="session")
def contract_etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    need_etcd()
    with running(make_cluster(tmp_path_factory.mktemp("etcd"))) as cluster:
        yield cluster


@pytest.fixture(params=["file", "etcd"])
def open_journal(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Open a journal whose memory and segments are so small that tests come to their ends."""
    if request.param == "file":
        return _open_file(tmp_path)
    cluster: Cluster = request.getfixturevalue("contract_etcd")
    return _open_etcd(
        fresh_settings(
            cluster, payload_bytes_max=PAYLOAD_BYTES_MAX, recent_bytes_max=4_000, mark_bytes=2_000, mark_frames=8
        )
    )


def _open_file(directory: Path) -> Open:
    settings = FileJournalSettings(payload_bytes_max=PAYLOAD_BYTES_MAX, recent_bytes_max=4_000, segment_bytes=2_000)

    @asynccontextmanager
    async def opened() -> AsyncIterator[Journal]:
        journal = FileJournal.open(directory, settings=settings)
        try:
            yield journal
        finally:
            await journal.close()

    return opened


def _open_etcd(settings: EtcdJournalSettings) -> Open:
    @asynccontextmanager
    async def opened() -> AsyncIterator[Journal]:
        await found(settings)
        journal = await EtcdJournal.open(settings)
        try:
            yield journal
        finally:
            await journal.close()

    return opened
