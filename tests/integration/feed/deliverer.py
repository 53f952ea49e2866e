"""A process that delivers webhooks, quick to try again: python deliverer.py JSON, see `Child.deliverer`."""

import asyncio
import json
import signal
import socket
import sys
from pathlib import Path

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.routing import Mount

from fivenines.historian.feed.lane import LaneSettings
from fivenines.historian.feed.pages import feed_pages
from fivenines.historian.feed.retrying import Retry
from fivenines.historian.feed.signing import Secrets
from fivenines.historian.feed.source import HttpSource
from fivenines.historian.feed.webhooks import Webhooks, WebhookSettings
from fivenines.historian.sql.schema import open_engine


async def main(
    *, folder: str, events: list[str], database: str, owner: str, tries: int, timeout_s: float, waiting_max: int
) -> None:
    retry = Retry(first_s=0.02, pause_s_max=0.5, tries_max=tries)
    lane = LaneSettings(retry=retry, beat_s=0.2, silent_s_max=2.0, waiting_max=waiting_max, beyond_max=2 * waiting_max)
    source = HttpSource(*events)
    webhooks = Webhooks(
        open_engine(database),
        source,
        Secrets(Path(folder) / "secrets"),
        owner=owner,
        settings=WebhookSettings(timeout_s=timeout_s, lane=lane),
    )
    webhooks.store.install()
    application = Starlette(routes=[Mount("/", feed_pages(source, webhooks))])
    server = uvicorn.Server(
        uvicorn.Config(application, log_level="warning", lifespan="off", timeout_graceful_shutdown=1)
    )
    listener = socket.create_server(("127.0.0.1", 0))
    delivering = asyncio.create_task(webhooks.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, server.handle_exit, signal.SIGTERM, None)
    sys.stdout.write(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}) + "\n")
    sys.stdout.flush()
    serving = asyncio.create_task(server._serve([listener]))
    await asyncio.wait({serving, delivering}, return_when=asyncio.FIRST_COMPLETED)
    if delivering.done():
        delivering.result()  # a bug: raises
    delivering.cancel()
    await asyncio.gather(delivering, return_exceptions=True)
    await source.close()


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    asyncio.run(main(**json.loads(sys.argv[1])))
