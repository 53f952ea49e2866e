"""A fivenines server for a benchmark: `fivenines serve` in its own folder on a free port, with the accounts open."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from bench.processes import BenchError, free_port, running
from bench.workload import ACCOUNTS, ASSET, MIN_BALANCE, account_names

__all__ = ["Server", "ledger_server"]

PAGE = 1_000
MOVED_TRIES = 20
TIMEOUT_S = 30.0


class Server:
    """A running server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.transactions_url = f"{url}/v1/transactions"
        self._http = httpx.Client(base_url=url, timeout=TIMEOUT_S)

    def is_ready(self) -> bool:
        """Tell whether it takes requests."""
        try:
            return self._http.get("/ready").is_success
        except httpx.TransportError:
            return False

    def open_accounts(self) -> None:
        """Open the accounts of the workload."""
        self._post("/v1/assets", {"asset": ASSET})
        names = account_names(ACCOUNTS)
        for start in range(0, ACCOUNTS, PAGE):
            part = names[start : start + PAGE]
            self._post("/v1/accounts", [{"id": name, "asset": ASSET, "min_balance": MIN_BALANCE} for name in part])

    def metric(self, name: str) -> float:
        """Return the value of a metric that has no labels."""
        for line in self._http.get("/metrics").raise_for_status().text.splitlines():
            if line.startswith(f"{name} "):
                return float(line.removeprefix(f"{name} "))
        raise BenchError(f"{self.url} has no metric {name}")

    def moved(self) -> int:
        """Return the sum of all debits, once it is sure that it is that of all credits, too."""
        for _ in range(MOVED_TRIES):
            if (moved := self._moved()) is not None:
                return moved
        raise BenchError("the books go on changing after the load has ended")

    def _moved(self) -> int | None:
        """Return the sum of all debits, None if the books changed meanwhile: what was under way comes to its end."""
        debits = credits = 0
        positions = set()
        after: str | None = ""
        while after is not None:
            query = {"prefix": "bench:", "limit": str(PAGE)} | ({"after": after} if after else {})
            response = self._http.get("/v1/accounts", params=query).raise_for_status()
            positions.add(response.headers["Ledger-Position"])
            page = response.json()
            debits += sum(int(account["debits"]) for account in page["accounts"])
            credits += sum(int(account["credits"]) for account in page["accounts"])
            after = page["next"]
        if len(positions) > 1:
            return None
        if debits != credits:
            raise BenchError(f"the books do not balance: {debits} debited, {credits} credited")
        return debits

    def close(self) -> None:
        """Let go of the connection."""
        self._http.close()

    def _post(self, path: str, content: object) -> None:
        response = self._http.post(path, json=content)
        if response.status_code != 200:
            raise BenchError(f"{path} answered {response.status_code}: {response.text[:500]}")


@contextmanager
def ledger_server(folder: Path) -> Iterator[Server]:
    """Run a server on an empty ledger for as long as the block lasts."""
    folder.mkdir(parents=True)
    port = free_port()
    argv = [sys.executable, "-m", "fivenines", "serve", "--data", str(folder / "data"), "--port", str(port)]
    server = Server(f"http://127.0.0.1:{port}")
    try:
        with running(argv, log=folder / "server.log", ready=server.is_ready):
            server.open_accounts()
            yield server
    finally:
        server.close()
