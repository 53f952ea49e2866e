"""An etcd of three members for tests that leave it as it was, and the means to have one of their own."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

import pytest

from fivenines.drill.members import Cluster, make_cluster, running
from fivenines.journal.etcd import EtcdJournalSettings
from tests.integration.etcd.clusters import fresh_settings, need_etcd


class StartCluster(Protocol):
    def __call__(self, **options: Any) -> Cluster: ...


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three members, shared by all tests: none may be stopped, and each test has a prefix of its own."""
    need_etcd()
    with running(make_cluster(tmp_path_factory.mktemp("etcd"))) as cluster:
        yield cluster


@pytest.fixture
def settings(etcd: Cluster) -> EtcdJournalSettings:
    """Settings of a journal that no other test knows."""
    return fresh_settings(etcd)


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[StartCluster]:
    """Start members of the test's own, which it may do anything to."""
    need_etcd()
    with ExitStack() as stack:

        def start(**options: Any) -> Cluster:
            return stack.enter_context(running(make_cluster(tmp_path, **options)))

        yield start
