"""A process that projects, killed at any moment, many times: in the end each row is there once."""

import multiprocessing
import random
import time

import pytest
from sqlalchemy import Engine

from fivenines.historian.sql import open_engine
from tests.integration.sql.projecting import project_until_killed, steps_of
from tests.unit.historian_sql.lives import everything, project

PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["tests.integration.sql.projecting"])

KILLS = 25
FRAMES = 150


@pytest.mark.crash
def test_a_killed_projector_writes_each_row_once(
    url: str, engine: Engine, tmp_path_factory: pytest.TempPathFactory, crash_factor: int
) -> None:
    weather = random.Random(random.randrange(1 << 32))
    undisturbed = open_engine(f"sqlite:///{tmp_path_factory.mktemp('undisturbed') / 'history.db'}")
    seed = weather.randrange(1 << 32)
    frames = FRAMES * crash_factor
    steps = steps_of(seed, frames=frames, commands=6)
    project(undisturbed, 2, steps, batch=50)
    kills = 0
    for _ in range(KILLS * crash_factor):
        receiver, sender = PROCESSES.Pipe(duplex=False)
        child = PROCESSES.Process(target=project_until_killed, args=(url, 2, seed, frames, sender))
        child.start()
        sender.close()
        assert receiver.poll(60)
        assert receiver.recv_bytes() == b"begun"
        time.sleep(weather.uniform(0, 0.03))
        child.kill()
        child.join()
        kills += child.exitcode == -9
        child.close()
        receiver.close()
    project(engine, 2, steps, batch=50)
    assert everything(engine, 2) == everything(undisturbed, 2)
    assert kills > KILLS // 5
    undisturbed.dispose()
