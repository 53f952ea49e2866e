"""Whole fleets on virtual time: thousands of seeds must live, and planted bugs must not."""

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest

from fivenines.drill.simulation import COUNTS, Parts, SimulationFailedError, simulate
from fivenines.drill.simulation.etcd_channels import EtcdLink, outside_of
from fivenines.drill.simulation.etcd_members import SimulatedEtcd
from fivenines.drill.simulation.loop import DeadlockError, EndlessError, run
from fivenines.journal import Frame
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings, found, lanes
from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.ledger import Applied, Batch, Command, Outcome, PostOne
from fivenines.node import Node, Receipt

SEEDS = 500
"""Of 20,000 that `make simulate` lives."""


def test_five_hundred_fleets_keep_every_promise() -> None:
    """Nodes and members fail, leaders change, the journal is trimmed: nothing is lost, doubled, reordered or different.

    And all that is to be survived did happen, many times.
    """
    command = [sys.executable, "-m", "fivenines.drill.simulation", "--count", str(SEEDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{SEEDS:,} lives" in done.stdout
    totals = dict(re.findall(r"(\w+)=([\d,]+)", done.stdout))
    assert set(totals) == set(COUNTS)
    assert "0" not in totals.values(), done.stdout


@pytest.mark.parametrize("seed", [3, 6])
def test_a_seed_lives_the_same_life_in_every_process(seed: int) -> None:
    """A failing seed is worth nothing unless it fails again."""
    command = [sys.executable, "-m", "fivenines.drill.simulation", "--seed", str(seed)]
    lives = {
        subprocess.run(
            command, capture_output=True, text=True, check=True, env=os.environ | {"PYTHONHASHSEED": hash_seed}
        ).stdout
        for hash_seed in ("0", "1")
    }
    assert len(lives) == 1
    assert f"seed={seed}" in lives.pop()


# --- tests of the test: bugs, each of which must be found ---


def chance_of(made_with: dict[str, Any]) -> Random:
    """Other chances for each node of each life, and the same again for the same seed."""
    return Random(made_with["random_bytes"](8))


def acknowledges_before_commit(*args: Any, **kwargs: Any) -> Node:
    """A node that answers before the journal has it, and then forgets to send it."""
    node = Node(*args, **kwargs)
    submit = node.writer.submit
    chance = chance_of(kwargs)

    async def answer_early(commands: Sequence[Command], **options: Any) -> Receipt:
        if chance.random() < 0.8 or not commands or type(commands[0]) is not PostOne:
            return await submit(commands, **options)
        return Receipt(node.replica.position + 1, [int(Outcome.posted)] * len(commands), {})

    node.writer.submit = answer_early  # type: ignore[method-assign]
    return node


class LosesAnEvent(EtcdJournal):
    """A journal whose watch leaves out one of fifty events."""

    def _take_event(self, event: rpc.Event) -> None:
        if event.kv.mod_revision % 50 != 31:
            super()._take_event(event)


def applies_twice(*args: Any, **kwargs: Any) -> Node:
    """A node that moves the money of a frame twice, now and then."""
    node = Node(*args, **kwargs)
    chance = chance_of(kwargs)

    def again(_frame: Frame, batch: Batch, applied: Applied) -> None:
        if chance.random() < 0.05:
            for command, outcome in zip(batch.commands, applied.outcomes, strict=True):
                if type(command) is PostOne and outcome == Outcome.posted:
                    node.state.accounts[command.source].debits += command.amount
                    node.state.accounts[command.destination].credits += command.amount

    node.replica.listen(again)
    return node


PLANTS = {
    "acknowledged_before_commit": Parts(make_node=acknowledges_before_commit),
    "a_lost_watch_event": Parts(journal=LosesAnEvent),
    "a_double_apply": Parts(make_node=applies_twice),
}


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_bug_is_found(plant: str) -> None:
    reasons = [reason for seed in range(20) if (reason := reason_of_failure(seed, PLANTS[plant]))]
    assert len(reasons) >= 10, f"found in only {len(reasons)} of 20 lives"


def test_a_write_that_does_not_compare_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the comparison with the lane's number, what is sent twice is written twice."""
    write = lanes._Lane._write

    async def write_carelessly(lane: Any, number: int, pieces: Sequence[tuple[int, bytes]]) -> Any:
        client = lane._client

        class Careless:
            async def txn(self, request: rpc.TxnRequest, timeout_s: float) -> Any:
                del request.compare[1:]
                return await client.txn(request, timeout_s)

        lane._client = Careless()
        try:
            return await write(lane, number, pieces)
        finally:
            lane._client = client

    monkeypatch.setattr(lanes._Lane, "_write", write_carelessly)
    reasons = [reason for seed in range(20) if (reason := reason_of_failure(seed, Parts()))]
    assert len(reasons) >= 10, f"found in only {len(reasons)} of 20 lives"


def reason_of_failure(seed: int, parts: Parts) -> str:
    try:
        simulate(seed, parts)
    except SimulationFailedError as failed:
        return failed.reason
    return ""


def test_a_follower_that_reads_old_frames_outlives_an_outage_of_the_journal() -> None:
    """It waits, and goes on where it was: its node has no reason to leave (found in the life of seed 140)."""

    async def follow_through_an_outage() -> list[int]:
        etcd = SimulatedEtcd(Random(1))
        links = [EtcdLink(etcd, member, 0.001) for member in etcd.members]
        settings = EtcdJournalSettings(endpoints=("0", "1", "2"), recent_bytes_max=1)
        await found(settings, outside=outside_of(links))
        journal = await EtcdJournal.open(settings, outside_of(links))
        for number in range(3):
            await journal.append(b"%d" % number)
        for link in links:
            link.cut(refuses=False)
            asyncio.get_running_loop().call_later(60.0, link.heal)
        seen = []
        async for frame in journal.follow(1):
            seen.append(frame.position)
            if len(seen) == 3:
                break
        await journal.close()
        return seen

    assert run(follow_through_an_outage()) == [1, 2, 3]


def test_a_hang_is_noticed() -> None:
    """On virtual time, to wait for nothing ends at once instead of never."""

    async def wait_for_nothing() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError):
        run(wait_for_nothing())


def test_who_is_busy_for_ever_is_noticed() -> None:
    """A life that never ends is told with its seed, and holds up none of the others."""

    async def look_again_and_again() -> None:
        while True:  # noqa: ASYNC110 - that is what it is about
            await asyncio.sleep(0.001)

    with pytest.raises(EndlessError):
        run(look_again_and_again())
