"""Load for PostgreSQL in sets: 8,000 transfers a call, by arrays that the server unnests.

A process of its own, so that it takes no time of the process that measures: `python -m bench.peers.postgres_set` takes
one JSON object as its argument (SetLoad) and prints one (SetResult). Each client has one prepared statement on one
connection; asyncpg sends the arrays in binary; ids are made before the clock starts.
"""

import asyncio
import itertools
import random
import sys
import time

import asyncpg
import msgspec
from asyncpg.pgproto.pgproto import UUID

from bench.ids import uuid7_bytes

__all__ = ["SetLoad", "SetResult"]

Batch = tuple[list[UUID], list[str], list[str], list[int]]


class SetLoad(msgspec.Struct, frozen=True):
    """What to send."""

    dsn: str
    clients: int
    batches: int
    """Of all clients together."""
    accounts: int
    batch_size: int = 8_000
    seed: int = 1


class SetResult(msgspec.Struct, frozen=True):
    """What was acknowledged."""

    posted: int
    seconds: float


def make_batches(load: SetLoad) -> list[Batch]:
    """Make transfers of 5 between random pairs of accounts, with ids that ascend."""
    chance = random.Random(load.seed)
    names = [f"bench:{number:06d}" for number in range(1, load.accounts + 1)]
    now_ms, counter = time.time_ns() // 1_000_000, itertools.count()
    batches = []
    for _ in range(load.batches):
        ids = [UUID(uuid7_bytes(now_ms, load.seed, next(counter))) for _ in range(load.batch_size)]
        pairs = [chance.sample(names, 2) for _ in range(load.batch_size)]
        batches.append((ids, [pair[0] for pair in pairs], [pair[1] for pair in pairs], [5] * load.batch_size))
    return batches


async def run(load: SetLoad) -> SetResult:
    """Send all batches, each client its next as soon as it has its answer."""
    connections = [await asyncpg.connect(load.dsn) for _ in range(load.clients)]
    statements = [await connection.prepare("select post_set($1, $2, $3, $4)") for connection in connections]
    batches = iter(make_batches(load))

    async def send(statement: "asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record]") -> int:
        return sum([await statement.fetchval(*batch) for batch in batches])

    started = time.perf_counter()
    posted = sum(await asyncio.gather(*[send(statement) for statement in statements]))
    seconds = time.perf_counter() - started
    for connection in connections:
        await connection.close()
    return SetResult(posted=posted, seconds=seconds)


if __name__ == "__main__":
    print(msgspec.json.encode(asyncio.run(run(msgspec.json.decode(sys.argv[1], type=SetLoad)))).decode())
