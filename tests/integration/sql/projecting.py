"""A process that projects, made to be killed."""

from multiprocessing.connection import Connection
from random import Random

from fivenines.historian.follower import Follower, Step
from fivenines.historian.sql import Projector, open_engine
from fivenines.journal import Frame
from fivenines.ledger import State, encode
from tests.property.ledger.long_journals import Journalist


def steps_of(seed: int, *, frames: int, commands: int) -> list[Step]:
    """Live a long journal, and keep the steps alone."""
    follower = Follower(State(), bytes(32))
    journal = Journalist(seed).journal(frames=frames, commands=commands)
    return [
        follower.step(Frame(position, encode(batch), position.to_bytes(32, "big")))
        for position, batch in enumerate(journal, 1)
    ]


def project_until_killed(url: str, version: int, seed: int, frames: int, sender: Connection) -> None:
    """Go on projecting from where the history is, a few frames at a time; say when it begins, and when it is done."""
    steps = steps_of(seed, frames=frames, commands=6)
    random = Random()
    projector = Projector(open_engine(url), version)
    sender.send_bytes(b"begun")
    while projector.position < len(steps):
        start = projector.position
        projector.project(steps[start : start + random.randint(1, 4)])
    sender.send_bytes(b"done")
