"""Payments over HTTP: a service of a user, which runs beside the ledger in every region.

`fivenines up examples/platform.yaml` starts two of it in each region and leads clients to them; it runs alone, too:

    PORT=8080 FIVENINES_URL=http://127.0.0.1:9959 python examples/payments.py

    curl -X POST http://127.0.0.1:8080/pay -H 'Content-Type: application/json' \
        -d '{"id": "0190a3b4-0000-7000-8000-000000000001", "to": "customers:alice", "amount": 1250}'

The payer makes the `id`, a UUIDv7 (`fivenines.new_id()`). It becomes the id of the transaction, so a payment that is
sent again is the same payment: the edge and the payer may repeat it as often as they like.

What a platform asks of a service, in any language: listen on HOST and PORT; say in /live whether the process works and
in /ready whether it should get requests; on SIGTERM finish what is in flight and end. Where the ledger is stands in
FIVENINES_URL and FIVENINES_NAMESERVERS, which our client reads by itself.
"""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from fivenines.client import AsyncLedger, InvalidRequestError, RefusedError, UnavailableError

ASSET, CASH = "EUR/2", "bank:cash"
known: set[str] = set()
"""Accounts that are open, so that each is opened once; opening it twice would change nothing."""


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[dict[str, AsyncLedger]]:
    """Hold one client for as long as the service runs."""
    async with AsyncLedger(deadline_s=8) as ledger:
        yield {"ledger": ledger}


async def pay(request: Request) -> Response:
    """Pay out: `{"id": UUIDv7, "to": account, "amount": in cents}`, and perhaps `"from"`, or else from the bank."""
    ledger: AsyncLedger = request.state.ledger
    try:
        body = await request.json()
        id, to, amount, source = body["id"], body["to"], body["amount"], body.get("from", CASH)
    except (ValueError, KeyError, TypeError, AttributeError):
        return JSONResponse({"error": "send JSON with id, to and amount"}, 422)
    try:
        await open_accounts(ledger, source, to)
        done = await ledger.post(source=source, destination=to, amount=amount, id=id)
        account = await ledger.account(to)
    except RefusedError as refused:
        return JSONResponse({"id": id, "outcome": refused.outcome}, 409)
    except (InvalidRequestError, TypeError) as error:
        return JSONResponse({"error": str(error)}, 422)
    except UnavailableError as error:
        # Paid or not, nobody knows yet: sent again with the same id it is surely paid once.
        return JSONResponse({"id": id, "error": str(error)}, 503, {"Retry-After": "1"})
    answer = {"id": id, "outcome": done.outcome, "balance": account.balance, "by": os.environ.get("FIVENINES_NAME")}
    return JSONResponse(answer, 201)


async def open_accounts(ledger: AsyncLedger, *accounts: str) -> None:
    """Open accounts that are not known yet; the bank's own may go below zero, as it is where money comes from."""
    for account in accounts:
        if account not in known:
            await ledger.create_asset(ASSET)
            await ledger.open_account(account, asset=ASSET, min_balance=None if account == CASH else 0)
            known.add(account)


async def live(_: Request) -> Response:
    """Whether the process works. It asks nobody else: a service is not restarted because the ledger is away."""
    return JSONResponse({"status": "live"})


async def ready(_: Request) -> Response:
    """Whether it should get requests. It asks nobody else either: the client moves to another region by itself."""
    return JSONResponse({"status": "ready", "region": os.environ.get("FIVENINES_REGION", "")})


app = Starlette(
    routes=[Route("/pay", pay, methods=["POST"]), Route("/live", live), Route("/ready", ready)], lifespan=lifespan
)

if __name__ == "__main__":
    host, port = os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8080"))
    # On SIGTERM uvicorn takes no new connections, finishes what is in flight, for so many seconds at most, and ends.
    uvicorn.run(app, host=host, port=port, timeout_graceful_shutdown=9, log_level="warning")
