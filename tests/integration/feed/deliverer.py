"""A process that delivers webhooks, quick to try again: python deliverer.py FOLDER EVENTS_URL TRIES TIMEOUT_S."""

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


async def main(folder: Path, events: str, tries: int, timeout_s: float) -> None:
    lane = LaneSettings(retry=Retry(first_s=0.02, pause_s_max=0.5, tries_max=tries), beat_s=0.2)
    source = HttpSource(*events.split(","))
    webhooks = Webhooks(
        open_engine(f"sqlite:///{folder / 'feed.sqlite'}"),
        source,
        Secrets(folder / "secrets"),
        owner="deliverer",
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
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
