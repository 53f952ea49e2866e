"""The load, the same for both: transfers at a steady rate, whatever becomes of those before, by clients that try again.

Each transfer has an id that was made before its first try, and goes out when its time has come. So a pause cannot hide
behind requests that were never made. A client goes on for 30 s: ours is the client library, by DNS; the peer's is
psycopg through HAProxy (`senders.py`). Which accounts pay which is the same for both, from one seed.

It runs as a process of its own, so that what the benchmark does meanwhile is not taken for a slow database:
`RunningLoad` starts it, hears of each request as it ends, and stops it.
"""

import asyncio
import random
import signal
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, Literal

import msgspec
from msgspec import Struct

from bench.failover.figures import Asked
from bench.processes import BenchError
from fivenines.drill.load.process import LoadProcess
from fivenines.ids import as_text, new_id

__all__ = ["ACCOUNTS", "DEADLINE_S", "Open", "Plan", "RunningLoad", "account"]

ACCOUNTS: Final = 200
DEADLINE_S: Final = 30.0
"""How long a client goes on with one request."""
SEED: Final = 6
_AMOUNT_MAX: Final = 100
_START_S_MAX: Final = 120.0
_LOOK_S: Final = 0.1
_LONG_S: Final = 2.5
"""Half of what a cut lasts at least, so that whatever waits because of it is seen to; and far above what a request
takes on a machine that has other work as well."""


class Plan(Struct, frozen=True, kw_only=True):
    """What to do."""

    kind: Literal["fivenines", "patroni"]
    rate_per_s: float
    url: str = ""
    """Of our ledger, by its name."""
    nameservers: tuple[tuple[str, ...], ...] = ()
    """Of each of our clients, host:port, the nearest first; there are as many clients as entries."""
    dsn: str = ""
    """Of the peer's database."""


def account(number: int) -> str:
    """Return the name of an account, as the peer's schema has it too."""
    return f"bench:{number:06d}"


class Open:
    """Which requests have not ended: one is due after the other, without a gap.

    Args:
        began: when the first was due.
        rate_per_s: how many are due in a second.
    """

    def __init__(self, began: float, rate_per_s: float) -> None:
        self._began, self._rate_per_s = began, rate_per_s
        self._first, self._ended = 0, set[int]()

    def end(self, due: float) -> None:
        """Take note of the end of the request that was due then."""
        self._ended.add(round((due - self._began) * self._rate_per_s))
        while self._first in self._ended:
            self._ended.remove(self._first)
            self._first += 1

    def since(self) -> float:
        """Return when the oldest was due that has not ended."""
        return self._began + self._first / self._rate_per_s


class RunningLoad:
    """A load that runs.

    Args:
        plan: what to do.
        log: the file for what goes wrong with it.
    """

    def __init__(self, plan: Plan, log: Path) -> None:
        self.plan = plan
        self.asked: list[Asked] = []
        """Requests that have ended, in the order of their ends."""
        self.began = 0.0
        """When the first request was due, on the monotonic clock."""
        self._open = Open(0.0, plan.rate_per_s)
        self._process = LoadProcess(
            "bench.failover.load",
            Asked,
            self._hear,
            log=log,
            failed=BenchError,
            start_s_max=_START_S_MAX,
            folder=Path(__file__).parents[2],
        )

    async def start(self) -> None:
        """Begin, and return when requests go out. Raises `BenchError`."""
        self.began = await self._process.start(self.plan)
        self._open = Open(self.began, self.plan.rate_per_s)

    async def wait_served(self, seconds: float, *, calm_s: float = 1.0) -> None:
        """Wait until no request has waited for long for a while. Raises `BenchError`: not by then, or it ended."""
        until = time.monotonic() + seconds
        calm_since: float | None = None
        while True:
            now = time.monotonic()
            waiting_s = now - self._open_since()
            if waiting_s > _LONG_S:
                calm_since = None
            elif calm_since is None:
                calm_since = now
            elif now >= calm_since + calm_s:
                return
            if now > until:
                raise BenchError(
                    f"requests are not answered again after {seconds:g} s: one waits for {waiting_s:.1f} s"
                )
            await asyncio.sleep(_LOOK_S)

    async def wait_ended(self, moment: float) -> None:
        """Wait until that moment of the monotonic clock is over, and all that was due before it has ended.

        Raises:
            BenchError: the load ended by itself.
        """
        while time.monotonic() < moment or self._open_since() < moment:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)

    def _open_since(self) -> float:
        """Return when the oldest was due that has not ended."""
        if self._process.is_over:
            raise self._process.failed("ended by itself")
        return self._open.since()

    async def stop(self) -> None:
        """Ask nothing more, and return when all that was asked has ended. Raises `BenchError`."""
        self._process.ask_no_more()
        await self._process.wait()

    async def discard(self) -> None:
        """Leave no process behind."""
        await self._process.discard()

    def _hear(self, asked: Asked) -> None:
        self.asked.append(asked)
        self._open.end(asked.due)


async def _run(plan: Plan) -> None:
    """Ask until SIGTERM, then wait for what is under way."""
    from bench.failover.senders import GaveUpError, sending

    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    chance = random.Random(SEED)

    async def ask(asked: Asked, source: str, destination: str, amount: int) -> None:
        try:
            asked.is_first_failed = await sender.transfer(
                as_text(asked.id), source, destination, amount, deadline=asked.due + DEADLINE_S
            )
        except GaveUpError as error:
            asked.error = str(error)
        asked.ended = time.monotonic()
        _tell(msgspec.json.encode(asked))

    async with AsyncExitStack() as stack:
        sender = await stack.enter_async_context(sending(plan))
        began, sent = time.monotonic(), 0
        _tell(str(began).encode())
        async with asyncio.TaskGroup() as tasks:
            while not ending.is_set():
                while (due := began + sent / plan.rate_per_s) <= time.monotonic():
                    source, destination = chance.sample(range(ACCOUNTS), 2)
                    asked = Asked(due, bytes.fromhex(new_id().replace("-", "")))
                    amount = chance.randint(1, _AMOUNT_MAX)
                    tasks.create_task(ask(asked, account(source), account(destination), amount))
                    sent += 1
                await asyncio.sleep(max(0.0, due - time.monotonic()))


def _tell(line: bytes) -> None:
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    """Carry out the load that the one line on stdin describes, in JSON."""
    import uvloop

    uvloop.run(_run(msgspec.json.decode(sys.stdin.buffer.readline(), type=Plan)))


if __name__ == "__main__":
    main()
