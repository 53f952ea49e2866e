"""Large frames, and the judge of what clients saw."""

import httpx

from fivenines.client import AsyncLedger, Row, new_ids16
from fivenines.drill.histories import Clients
from tests.integration.regions.fleet import Regions

__all__ = ["MIB", "TRIMMING", "Bulk", "check_all_is_well"]

_ROWS = 8_000
MIB = 1024 * 1024
TRIMMING = ("--keep-tail", "4", "--snapshot-every", "20000")
"""Options for a short tail, and a snapshot after every third large frame."""


class Bulk:
    """Arrays of 8,000 transactions, each of which makes a frame of some 400 KB, between accounts of their own."""

    def __init__(self, fleet: Regions) -> None:
        self._fleet = fleet
        self.posted = 0

    async def open(self) -> None:
        async with AsyncLedger(*self._fleet.urls) as ledger:
            await ledger.create_asset("JPY/0")
            for name in ("bulk:a", "bulk:b"):
                await ledger.open_account(name, asset="JPY/0", min_balance=None)

    async def write(self, frames: int) -> None:
        """Write so many frames, through whichever nodes serve; all must be posted."""
        async with AsyncLedger(*self._fleet.urls) as ledger:
            for _ in range(frames):
                results = await ledger.submit_rows(_rows())
                assert {result.outcome for result in results} == {"posted"}
                self.posted += len(results)

    async def write_until_trimmed(self, position: int = 0) -> None:
        """Write frames until the journal begins after this position."""
        while not any(
            event["first"] > position + 1 for node in self._fleet.nodes for event in node.events("journal.trimmed")
        ):
            await self.write(1)

    async def write_until_refused(self, url: str) -> httpx.Response:
        """Write frames through one node until it refuses one, and return its refusal."""
        import msgspec

        while True:
            response = await self._fleet.http.post(
                f"{url}/v1/transactions",
                content=msgspec.msgpack.encode(_rows()),
                headers={"Content-Type": "application/msgpack", "Accept": "application/json"},
            )
            if response.status_code != 200:
                return response
            self.posted += _ROWS

    async def check_nothing_is_lost(self) -> None:
        """Assert that every node counts exactly what was acknowledged."""
        for node in self._fleet.nodes:
            response = await self._fleet.http.get(f"{node.url}/v1/accounts/bulk:b")
            assert response.json()["balance"] == self.posted, node.name


def _rows() -> list[Row]:
    return [(id, "bulk:a", "bulk:b", 1) for id in new_ids16(_ROWS)]


async def check_all_is_well(fleet: Regions, clients: Clients) -> None:
    """Assert that no request failed, that the clients saw one ledger, once, and that all nodes hold the same one."""
    assert clients.failed == []
    violation = clients.violation()
    assert violation is None, str(violation)
    await fleet.agreed()
    assert await clients.send_again() == []
    await fleet.agreed()
    fleet.check_logs()
