"""What agents and controllers have in common: a small HTTP server, up until SIGTERM or SIGINT."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response

__all__ = ["json_answer", "problem", "serving"]


@asynccontextmanager
async def serving(application: Starlette, host: str, port: int) -> AsyncIterator["Serving"]:
    """Serve an application; on leaving, finish what is in flight, and stop."""
    server = _Server(
        uvicorn.Config(
            application, host=host, port=port, lifespan="off", access_log=False, log_config=None, loop="none"
        )
    )
    running = Serving(asyncio.create_task(server.serve(), name="http"))
    try:
        yield running
    finally:
        server.should_exit = True
        await running.task


class Serving:
    """A server that runs."""

    def __init__(self, task: asyncio.Task[None]) -> None:
        self.task = task

    async def wait_told_to_stop(self, others: Iterable[asyncio.Task[None]] = ()) -> None:
        """Return upon SIGTERM or SIGINT, or when the server or one of the other tasks has ended."""
        told = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, told.set)
        stopping = asyncio.create_task(told.wait(), name="signals")
        await asyncio.wait({self.task, stopping, *others}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()


class _Server(uvicorn.Server):
    """uvicorn without its own signal handlers."""

    def capture_signals(self) -> AbstractContextManager[None]:  # type: ignore[override]
        """Leave the signals to whoever runs the process."""
        return nullcontext()


def json_answer(content: object, status: int = 200) -> Response:
    """Make an answer of a value."""
    return Response(msgspec.json.encode(content), status, media_type="application/json")


def problem(status: int, detail: str) -> Response:
    """Make an answer that says what is wrong."""
    return json_answer({"detail": detail}, status)
