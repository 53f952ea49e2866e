"""Two releases, which all tests here share: installing them takes a while."""

from pathlib import Path

import pytest

from tests.e2e.rolling.next_version import install


@pytest.fixture(scope="session")
def releases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The present release and the next one, installed, by these names."""
    return {name: install(tmp_path_factory.mktemp(name), is_next=name == "next") for name in ("present", "next")}
