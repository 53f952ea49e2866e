"""A connection that breaks while it is being made is one more thing that `AsyncLedger` retries by itself."""

import asyncio

import httpx
import pytest

from fivenines.client import AsyncLedger


class BreaksOnce(httpx.AsyncBaseTransport):
    """Fails the first request as anyio does when the socket is gone, and answers the second."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self.requests = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        if self.requests == 1:
            raise self._error
        body = b'{"id":"bank:cash","outcome":"done","position":2}'
        return httpx.Response(
            200,
            headers={"Content-Type": "application/json", "Ledger-Position": "2"},
            stream=httpx.ByteStream(body),
            request=request,
        )


@pytest.mark.parametrize("error", [AttributeError("no attribute 'getpeername'"), OSError(9, "Bad file descriptor")])
def test_a_connection_that_breaks_as_it_is_made_is_tried_again(error: Exception) -> None:
    transport = BreaksOnce(error)

    async def open_account() -> int | None:
        async with AsyncLedger("http://ledger.example", transport=transport) as ledger:
            return (await ledger.open_account("bank:cash", asset="EUR/2")).position

    assert asyncio.run(open_account()) == 2
    assert transport.requests == 2
