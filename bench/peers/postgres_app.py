"""A ledger service as a Python team would write it today: FastAPI and asyncpg, one database transaction a transfer.

It takes the same body as ours. Each request is idempotent by its id, locks the two accounts in the order of their ids
(so that no two requests wait for each other), checks, moves and commits before it answers.

`statements` is the way most teams write it: six round trips. `function` does the same in one, by a stored function.

Environment: `BENCH_DSN`, `BENCH_POOL` (connections of each worker), `BENCH_STYLE` (`statements` or `function`).
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from uuid import UUID

import asyncpg
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

__all__ = ["app"]

AccountId = Annotated[str, Field(pattern=r"^[A-Za-z0-9:_.\-]{1,128}$")]


class Posting(BaseModel):
    """A movement of an amount."""

    source: AccountId
    destination: AccountId
    amount: Annotated[int, Field(gt=0, lt=2**63)]


class NewTransaction(BaseModel):
    """A transaction to be decided."""

    id: UUID
    postings: Annotated[list[Posting], Field(min_length=1, max_length=1)]


class ItemResult(BaseModel):
    """The outcome of one transaction."""

    id: UUID
    outcome: str


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Hold a pool of connections for as long as the service lives."""
    size = int(os.environ["BENCH_POOL"])
    async with asyncpg.create_pool(os.environ["BENCH_DSN"], min_size=size, max_size=size) as pool:
        app.state.pool = pool
        yield


app = FastAPI(lifespan=lifespan)


async def post_by_statements(transaction: NewTransaction) -> str:
    """Post a transfer, one statement after another."""
    posting = transaction.postings[0]
    async with app.state.pool.acquire() as connection, connection.transaction():
        inserted = await connection.fetchval(
            "insert into transactions (id, source, destination, amount) values ($1, $2, $3, $4)"
            " on conflict (id) do nothing returning 1",
            transaction.id,
            posting.source,
            posting.destination,
            posting.amount,
        )
        if inserted is None:
            return "known"
        rows = await connection.fetch(
            "select id, credits - debits as balance, min_balance from accounts"
            " where id = $1 or id = $2 order by id for no key update",
            posting.source,
            posting.destination,
        )
        if len(rows) != 2:
            raise HTTPException(409, "account_unknown")
        source = next(row for row in rows if row["id"] == posting.source)
        if source["balance"] - posting.amount < source["min_balance"]:
            raise HTTPException(409, "insufficient_funds")
        move = "update accounts set {0} = {0} + $2 where id = $1"
        await connection.execute(move.format("debits"), posting.source, posting.amount)
        await connection.execute(move.format("credits"), posting.destination, posting.amount)
    return "posted"


async def post_by_function(transaction: NewTransaction) -> str:
    """Post a transfer in one round trip."""
    posting = transaction.postings[0]
    try:
        async with app.state.pool.acquire() as connection:
            outcome: str = await connection.fetchval(
                "select post_one($1, $2, $3, $4)",
                transaction.id,
                posting.source,
                posting.destination,
                posting.amount,
            )
            return outcome
    except (asyncpg.NoDataFoundError, asyncpg.CheckViolationError) as refusal:
        raise HTTPException(409, str(refusal)) from refusal


post_one = {"statements": post_by_statements, "function": post_by_function}[os.environ.get("BENCH_STYLE", "statements")]


@app.post("/v1/transactions")
async def post_transaction(transaction: NewTransaction) -> ItemResult:
    """Decide one transaction, durably."""
    return ItemResult(id=transaction.id, outcome=await post_one(transaction))


@app.get("/ready")
async def ready() -> bool:
    """Answer once the pool is there."""
    return True
