"""Nodes within the test's own process, on real files, with a clock that the test may set."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from fivenines.ids import new_ids16
from fivenines.journal import FileJournal, FileJournalSettings
from fivenines.ledger import (
    Command,
    Hold,
    OpenAccount,
    Outcome,
    Posting,
    PostOne,
    RegisterAsset,
    Settle,
    State,
    apply,
    decode,
)
from fivenines.node import NodeSettings
from fivenines.node.node import Node, now_us, open_node

__all__ = ["Clock", "books", "opened", "posts", "replay"]


class Clock:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.us = now_us()

    def __call__(self) -> int:
        return self.us


@asynccontextmanager
async def opened(
    directory: Path,
    settings: NodeSettings | None = None,
    *,
    segment_bytes: int = 64 * 1024 * 1024,
    clock_us: Clock | None = None,
) -> AsyncIterator[Node]:
    """Open the journal and the node in `directory`, and at the end stop both cleanly."""
    journal = FileJournal.open(directory, settings=FileJournalSettings(segment_bytes=segment_bytes))
    try:
        async with open_node(directory, journal, settings, clock_us=clock_us or now_us) as node:
            yield node
    finally:
        await journal.close()


async def books(node: Node, *, frames: int = 5) -> None:
    """Write books with something of everything: accounts, transactions, refusals, a hold that is half settled."""
    accounts = ["bank", "alice", "bob"]
    await node.writer.submit(
        [RegisterAsset("EUR/2"), *(OpenAccount(a, "EUR/2", None, None, b'{"a":1}') for a in accounts)]
    )
    hold, settle = new_ids16(2)
    await node.writer.submit([Hold(hold, (Posting("bank", "alice", 50),), 10**12)])
    await node.writer.submit([Settle(settle, hold, (Posting("bank", "alice", 20),), final=False)])
    await node.writer.submit([PostOne(new_ids16(1)[0], "bank", "nobody", 1)])
    await posts(node, frames=frames)


async def posts(node: Node, *, frames: int = 5, commands: int = 10) -> None:
    """Write some frames of plain transactions."""
    for _ in range(frames):
        receipt = await node.writer.submit([PostOne(id, "bank", "bob", 3) for id in new_ids16(commands)])
        assert set(receipt.outcomes) == {Outcome.posted}


def replay(directory: Path) -> State:
    """Make the state from the journal alone, with no help from any snapshot."""

    async def run() -> State:
        journal = FileJournal.open(directory)
        state = State()
        for frame in journal.read(1):
            apply(state, decode(frame.payload))
        await journal.close()
        return state

    return asyncio.run(run())


def commands_of(count: int) -> Sequence[Command]:
    """Return plain transactions between the accounts of `books`."""
    return [PostOne(id, "bank", "alice", 1) for id in new_ids16(count)]
