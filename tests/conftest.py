"""What all tests share: how hypothesis runs, where real books are, how long crash tests run, and where logs go."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

# No deadlines: a slow machine is no defect, and no test judges time.
settings.register_profile("fivenines", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("fivenines")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(autouse=True)
def logs_as_before() -> Iterator[None]:
    """Let no command that a test calls leave its logs to go to a stderr that is closed afterwards."""
    handlers = list(logging.root.handlers)
    yield
    if structlog.is_configured():
        structlog.reset_defaults()
        logging.captureWarnings(capture=False)
        logging.root.handlers[:] = handlers


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """The folder of shared real data: FIVENINES_DATA, or else `../shared/data` beside this checkout."""
    folder = Path(os.environ.get("FIVENINES_DATA") or ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is missing, and FIVENINES_DATA names no folder")
    return folder


@pytest.fixture(scope="session")
def crash_factor() -> int:
    """How many times its usual number of rounds a crash test runs: more than 1 under `make crash`."""
    return int(os.environ.get("FIVENINES_CRASH_FACTOR", "1"))
