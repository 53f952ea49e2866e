"""The process of a load: `python -m fivenines.drill.load`, with a `Plan` on stdin. `running.RunningLoad` starts it.

One task for each request, and one loop that makes them: it sleeps until the next is due, and makes all that are due
then. How late it is itself is in each `Asked`, as `sent - due`: a figure of the load, to be told from the ledger's.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack

import msgspec

from fivenines.client import AsyncLedger, LedgerError, Limits
from fivenines.drill.load.asked import Asked
from fivenines.drill.load.asking import ask
from fivenines.drill.load.mix import Mix, MixFailedError
from fivenines.drill.load.plan import Plan

_TELL_EVERY_S = 0.01
"""What has ended is told so often: a write for each would take as long as asking."""


class _Telling:
    """Says what has ended, a few lines at a time."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._encoder = msgspec.json.Encoder()

    def tell(self, asked: Asked) -> None:
        """Say it soon."""
        if not self._lines:
            asyncio.get_running_loop().call_later(_TELL_EVERY_S, self.flush)
        self._lines.append(self._encoder.encode(asked))

    def flush(self) -> None:
        """Say now what is to be said. Nobody hears it any more: then there is nothing left to ask for."""
        if not self._lines:
            return
        lines, self._lines = self._lines, []
        lines.append(b"")
        sys.stdout.buffer.write(b"\n".join(lines))
        sys.stdout.buffer.flush()


async def _one(ledger: AsyncLedger, asked: Asked, telling: _Telling) -> None:
    await ask(ledger, asked)
    telling.tell(asked)


async def run(plan: Plan) -> None:
    """Ask until the plan is over or SIGTERM comes, then wait for what is under way."""
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    limits = Limits(connections_max=plan.connections)
    async with AsyncExitStack() as stack:
        try:
            ledgers = [
                await stack.enter_async_context(
                    AsyncLedger(plan.url, nameservers=each, deadline_s=plan.deadline_s, limits=limits)
                )
                for each in plan.nameservers
            ]
            mix = Mix(plan.seed, len(ledgers), plan.name)
            await mix.setup(ledgers[0])
        except (ValueError, LedgerError, MixFailedError) as error:
            sys.exit(str(error))
        gc.collect()
        gc.freeze()  # what is there now stays; looking through it again and again would make requests late
        telling = _Telling()
        began, sent = time.monotonic(), 0
        sys.stdout.buffer.write(f"{began!r}\n".encode())
        sys.stdout.buffer.flush()
        async with asyncio.TaskGroup() as tasks:
            for at in plan.due():
                due = began + at
                while (wait_s := due - time.monotonic()) > 0 and not ending.is_set():
                    await _sleep(wait_s, ending)
                if ending.is_set():
                    break
                client = sent % len(ledgers)
                tasks.create_task(_one(ledgers[client], mix.next(due, client), telling))
                sent += 1
                if not sent % 8:
                    await asyncio.sleep(0)  # while it catches up, answers are to be heard as well
        telling.flush()


async def _sleep(seconds: float, ending: asyncio.Event) -> None:
    if seconds < 0.2:
        await asyncio.sleep(seconds)
        return
    try:
        async with asyncio.timeout(seconds):
            await ending.wait()
    except TimeoutError:
        pass


def main(lines: Sequence[bytes]) -> None:
    """Carry out the plan on stdin."""
    import uvloop

    uvloop.run(run(msgspec.json.decode(lines[0], type=Plan)))


if __name__ == "__main__":
    try:
        main([sys.stdin.buffer.readline()])
    except BrokenPipeError:
        # Who started it is gone. What stdout still holds cannot be said, and Python is not to try at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
