"""What tests add to an etcd of their own: skipped without one, and a journal that nobody else knows."""

import uuid
from typing import Any

import pytest

from fivenines.drill.members import Cluster, etcd_program
from fivenines.journal.etcd import EtcdJournalSettings


def need_etcd() -> None:
    """Skip the test where etcd is not installed; scripts/setup.sh installs it where it can."""
    if not etcd_program():
        pytest.skip("etcd is not installed: Debian has it in the package etcd-server")


def fresh_settings(cluster: Cluster, **options: Any) -> EtcdJournalSettings:
    """Return settings of a journal that nobody else knows."""
    return EtcdJournalSettings(endpoints=cluster.endpoints, prefix=f"/test/{uuid.uuid4().hex}/", **options)
