"""`fivenines nameserver` answers for the platform's zone; `fivenines dns sync` hands its policy to a DNS provider."""

import asyncio
import signal
from pathlib import Path
from typing import Annotated

import typer

from fivenines.cli.output import CommandFailedError, configure_logs, errors, print_json, telling_errors

__all__ = ["register"]

_NAMESERVER_EXAMPLES = """
[bold]Examples[/]

  fivenines nameserver --table steering.json              at 127.0.0.1:5353, UDP and TCP
  fivenines nameserver --table steering.json --port 0 --json | head -1
                                                          {"event":"ready","port":...} for a program to wait for
  dig @127.0.0.1 -p 5353 api.bank.test
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(epilog=_NAMESERVER_EXAMPLES)(nameserver)


def nameserver(
    table: Annotated[
        Path, typer.Option(metavar="FILE", help="The steering table; it may come later, and is read when it changes.")
    ],
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(help="The port to listen on, UDP and TCP; 0 takes a free one.", min=0, max=65535)
    ] = 5353,
    metrics_port: Annotated[
        int | None,
        typer.Option(help="Answer GET /metrics there, at the same address; 0 takes a free one.", min=0, max=65535),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, logs too.")] = False,
) -> None:
    """Answer for the platform's zone until Ctrl-C or SIGTERM, by a steering table that somebody else writes.

    Until there is a table the answer is SERVFAIL, and resolvers ask another nameserver. A table that makes no sense is
    logged and kept out: the one before stays in force.
    """
    import uvloop

    from fivenines.traffic.nameserver import Nameserver, NameserverSettings

    configure_logs(as_json=json)
    settings = NameserverSettings(table=table, host=host, port=port, metrics_port=metrics_port)

    def tell_ready(port: int, metrics_port: int | None) -> None:
        if json:
            metrics = {} if metrics_port is None else {"metrics_port": metrics_port}
            print_json({"event": "ready", "host": host, "port": port} | metrics)
        else:
            errors.print(
                f"[bold green]fivenines[/] answers names at [bold]{host}:{port}[/] by [bold]{table}[/]\n"
                "Ctrl-C stops it.",
                soft_wrap=True,
            )

    async def run() -> None:
        server = Nameserver(settings)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, server.stop)
        await server.serve(tell_ready)

    with telling_errors():
        try:
            uvloop.run(run())
        except OSError as error:
            raise CommandFailedError(
                f"{error.strerror or error}: {host}:{port}",
                hint="choose another address with --host, or another port with --port; 0 takes a free one",
            ) from error
