"""What all tests share: how hypothesis runs, where data is, where logs go, and which tests run at the same time."""

import logging
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests.side_by_side import Room

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


ROOM = pytest.StashKey[Room]()


def pytest_configure(config: pytest.Config) -> None:
    """Tell workers that run beside each other where they meet, and let what tests start hear Ctrl-C.

    A shell has what it runs in the background ignore it, and that is inherited.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if hasattr(config, "workerinput"):
        assert config.cache is not None
        config.stash[ROOM] = Room(config.cache.mkdir("room"))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave for good."""
    if (room := config.stash.get(ROOM, None)) is not None:
        room.close()


@pytest.hookimpl(tryfirst=True, wrapper=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> Iterator[None]:
    """Let a file of tests that wants the machine to itself have it: see `tests.side_by_side`."""
    room = item.config.stash.get(ROOM, None)
    if room is None:
        return (yield)
    room.enter(item.path, alone=item.get_closest_marker("alone") is not None)
    try:
        return (yield)
    finally:
        if nextitem is None or nextitem.path != item.path:
            room.leave()
