"""One server that the tests of the API share: each opens accounts of its own, so none is in another's way."""

from collections.abc import Iterator

import pytest

from tests.e2e.serving import Api, run_server


@pytest.fixture(scope="session")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server, and plain HTTP to it."""
    with run_server(tmp_path_factory.mktemp("served") / "data") as served:
        yield served
        assert served.server.process.poll() is None, served.server.log
        assert "Traceback" not in served.server.log, served.server.log
