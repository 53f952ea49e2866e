"""A steady load: so many requests a second, whatever becomes of those before, from clients that ask DNS.

The load is open: a request goes out when its time has come, not when the one before was answered. So a pause cannot
hide behind requests that were never made, and a latency counts from the time at which its request should have gone out.

Three of four requests post a transaction of their own, with an id that was made before; the fourth reads an account,
and wants to see all that its client has seen. Everything that was meant and everything that was answered is kept.

It runs as a process of its own, so that what a drill does meanwhile is not taken for a slow ledger: `SteadyLoad` starts
it, hears of each request as it ends, and stops it.
"""

import asyncio
import math
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import msgspec
from msgspec import Struct

from fivenines.client import AsyncLedger, LedgerError, Limits
from fivenines.ids import as_text, new_id
from fivenines.platform.local.dying import dying_with_us

__all__ = ["Asked", "Load", "SteadyFailedError", "SteadyLoad", "account_prefix"]

ASSET = "EUR/2"
DEADLINE_S = 30.0
"""How long a client goes on with one request."""
_LIMITS = Limits(connections_max=16)
"""One process is all of the clients. With hundreds of requests under way it would come round to each so seldom that
connections seem to take longer than they may, and what is given up is asked for again: a jam of its own making."""
_READ_EVERY = 4
_ACCOUNTS = 50
_START_S_MAX = 60.0
_LOOK_S = 0.1
_LINE_BYTES_MAX = 1024 * 1024


class SteadyFailedError(Exception):
    """The load could not be begun, or ended by itself; the sentence has what it said last."""


class Load(Struct, frozen=True, kw_only=True):
    """What to do."""

    url: str
    """Of the ledger, by its name."""
    nameservers: tuple[tuple[str, ...], ...]
    """Of each client, host:port, the nearest first; there are as many clients as entries."""
    rate_per_s: float = 300.0
    """Requests a second, of all clients together."""
    name: str = "1"
    """Of this load: its accounts are its own."""


class Asked(Struct, array_like=True, eq=False):
    """One request."""

    due: float
    """When it should have gone out, on the machine's monotonic clock."""
    client: int
    account: str
    id: bytes = b""
    """Of the transaction, 16 bytes; empty for a read."""
    amount: int = 0
    ended: float = math.inf
    outcome: str = ""
    """What the ledger said; empty while nothing was heard."""
    position: int = 0
    error: str = ""
    """Why the client gave up."""

    @property
    def latency_s(self) -> float:
        """From when it should have gone out to its answer."""
        return self.ended - self.due


def account_prefix(load: Load) -> str:
    """Return what the names of all accounts of a load begin with."""
    return f"steady:{load.name}:"


class SteadyLoad:
    """A load that runs.

    Args:
        load: what to do.
        log: the file for what goes wrong with it.
    """

    def __init__(self, load: Load, log: Path) -> None:
        self.load = load
        self.asked: list[Asked] = []
        """Requests that have ended, in the order of their ends."""
        self.began = 0.0
        """When the first request was due, on the monotonic clock."""
        self._log = log
        self._process: Process | None = None
        self._hearing: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin, and return when requests go out. Raises `SteadyFailedError`."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(*dying_with_us(), sys.executable, "-m", "fivenines.drill.steady"),
                msgspec.json.encode(self.load).decode(),
                stdin=DEVNULL,
                stdout=PIPE,
                stderr=log,
                start_new_session=True,
                limit=_LINE_BYTES_MAX,
            )
        assert self._process.stdout is not None
        try:
            async with asyncio.timeout(_START_S_MAX):
                line = await self._process.stdout.readline()
        except TimeoutError:
            line = b""
        if not line:
            await self.discard()
            raise self._failed("did not begin")
        self.began = float(line)
        self._hearing = asyncio.create_task(self._hear(), name="hearing of the load")

    async def stop(self) -> None:
        """Ask nothing more, and return when all that was asked has ended. Raises `SteadyFailedError`."""
        assert self._process is not None and self._hearing is not None  # noqa: PT018
        self._process.send_signal(signal.SIGTERM)
        await self._hearing
        if (status := await self._process.wait()) != 0:
            raise self._failed(f"ended with status {status}")

    async def wait_ended(self, moment: float) -> None:
        """Wait until that moment of the monotonic clock is over, and all that was due before it has ended.

        Raises:
            SteadyFailedError: the load ended by itself.
        """
        assert self._hearing is not None
        while time.monotonic() < moment or self._is_late(moment):
            if self._hearing.done():
                raise self._failed("ended by itself")
            await asyncio.sleep(_LOOK_S)

    def _is_late(self, moment: float) -> bool:
        """Whether something that was due before a moment has not ended: one is due after the other, without a gap."""
        due = 1 + int((moment - self.began) * self.load.rate_per_s)
        return sum(each.due < moment for each in self.asked) < due

    async def discard(self) -> None:
        """Leave no process behind."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        if self._hearing is not None:
            self._hearing.cancel()
            await asyncio.gather(self._hearing, return_exceptions=True)

    async def _hear(self) -> None:
        assert self._process is not None and self._process.stdout is not None  # noqa: PT018
        decoder = msgspec.json.Decoder(Asked)
        while line := await self._process.stdout.readline():
            self.asked.append(decoder.decode(line))

    def _failed(self, what: str) -> SteadyFailedError:
        said = self._log.read_bytes()[-2_000:].decode(errors="replace").strip()
        return SteadyFailedError(f"the load {what}. It said last:\n{said or '(nothing)'}")


async def _run(load: Load) -> None:
    """Ask until SIGTERM, then wait for what is under way."""
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    prefix = account_prefix(load)
    bank, accounts = f"{prefix}bank", [f"{prefix}{number:03d}" for number in range(_ACCOUNTS)]
    async with AsyncExitStack() as stack:
        ledgers = [
            await stack.enter_async_context(
                AsyncLedger(load.url, nameservers=each, deadline_s=DEADLINE_S, limits=_LIMITS)
            )
            for each in load.nameservers
        ]
        await ledgers[0].create_asset(ASSET)
        await ledgers[0].open_account(bank, asset=ASSET, min_balance=None)
        for account in accounts:
            await ledgers[0].open_account(account, asset=ASSET)
        began, sent = time.monotonic(), 0
        _tell(str(began).encode())
        async with asyncio.TaskGroup() as tasks:
            while not ending.is_set():
                while (due := began + sent / load.rate_per_s) <= time.monotonic():
                    asked = Asked(due, sent % len(ledgers), accounts[sent % _ACCOUNTS])
                    if sent % _READ_EVERY:
                        asked.id, asked.amount = bytes.fromhex(new_id().replace("-", "")), 1 + sent % 100
                    tasks.create_task(_ask(ledgers[asked.client], asked, bank))
                    sent += 1
                await asyncio.sleep(max(0.0, due - time.monotonic()))


async def _ask(ledger: AsyncLedger, asked: Asked, bank: str) -> None:
    try:
        if asked.id:
            result = await ledger.post(
                id=as_text(asked.id), source=bank, destination=asked.account, amount=asked.amount
            )
            asked.outcome, asked.position = result.outcome, result.position or 0
        else:
            await ledger.account(asked.account)
            asked.outcome = "read"
    except LedgerError as error:
        asked.error = str(error)
    asked.ended = time.monotonic()
    _tell(msgspec.json.encode(asked))


def _tell(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def main(arguments: Sequence[str]) -> None:
    """Carry out the load that the one argument describes, in JSON."""
    import uvloop

    uvloop.run(_run(msgspec.json.decode(arguments[0], type=Load)))


if __name__ == "__main__":
    main(sys.argv[1:])
