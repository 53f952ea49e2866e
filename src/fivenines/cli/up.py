"""`fivenines up`: a whole platform on this machine; and `fivenines agent`, which it starts in each region."""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.live import Live

from fivenines.cli.output import (
    JSON,
    CommandFailedError,
    configure_logs,
    errors,
    out,
    print_json,
    telling_errors,
)
from fivenines.cli.plan import check_placement, read_declared

if TYPE_CHECKING:
    from fivenines.platform.loading import Declared
    from fivenines.platform.local.up import Seen, Up
    from fivenines.platform.topology import Topology

__all__ = ["FOLDER", "FolderOption", "read_folder", "register", "serve_part"]

FOLDER = Path("fivenines-data")

FolderOption = Annotated[
    Path,
    typer.Option(
        "--folder", metavar="DIR", help="The platform's folder: data, logs, settings.", envvar="FIVENINES_FOLDER"
    ),
]

_EXAMPLES = """
[bold]Examples[/]

  fivenines up                          three regions on this machine, with what platform.yaml says if there is one

  fivenines up examples/platform.yaml   ... and a service of your own beside the ledger

  sudo fivenines up --isolation netns   each region in a network of its own, with a cable that can be cut
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(epilog=_EXAMPLES)(up)
    app.command(hidden=True)(agent)


def up(
    file: Annotated[
        Path | None, typer.Argument(metavar="PLATFORM.YAML", help="What to run; default: ./platform.yaml.")
    ] = None,
    folder: FolderOption = FOLDER,
    network: Annotated[
        int,
        typer.Option(help="Region R has the address 127.N.R.1: several platforms fit side by side.", min=0, max=255),
    ] = 0,
    isolation: Annotated[
        Literal["loopback", "netns"],
        typer.Option(help="`netns` gives each region a network namespace of its own; needs root, on Linux."),
    ] = "loopback",
    away_s: Annotated[
        float, typer.Option(metavar="SECONDS", help="How long a region that was lost stays away.", min=0.1)
    ] = 5.0,
    json: JSON = False,
) -> None:
    """Run a whole platform on this machine until Ctrl-C: three regions with all their servers, steered and healed.

    What it keeps is in its folder: a second run goes on from there. However this ends, no process is left behind.
    """
    import uvloop

    from fivenines.platform.local.up import Up, UpError, held
    from fivenines.platform.topology import make_topology

    configure_logs(as_json=json)
    with telling_errors():
        _check_programs()
        declared = read_declared(file)
        check_placement(declared)
        home = Path(declared.file).parent if Path(declared.file).exists() else Path()
        _check_folders(declared, home)
        topology = make_topology(declared.platform, folder, home=home, network=network, isolation=isolation)
        try:
            with held(folder):
                platform = Up(topology, away_s=away_s, told=lambda text: errors.print(text, markup=False))
                uvloop.run(_run(platform, quiet=json))
        except UpError as error:
            raise CommandFailedError(str(error), hint=error.hint) from error
        except OSError as error:
            raise CommandFailedError(f"{error.strerror}: {error.filename or folder}") from error


async def _run(platform: "Up", *, quiet: bool) -> None:
    """Bring it up, say what there is, and take it down when told to."""
    from fivenines.platform.local.picture import parts_table

    task = asyncio.current_task()
    assert task is not None
    told = asyncio.Event()
    loop = asyncio.get_running_loop()

    def stop() -> None:
        if told.is_set() or not is_up:
            task.cancel()
        told.set()

    is_up = False
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    topology = platform.topology
    began = time.monotonic()
    try:
        with Live(console=errors, transient=True, auto_refresh=False) as live:
            show = errors.is_terminal and not quiet

            def progress(seen: "Seen") -> None:
                if show:
                    live.update(
                        parts_table(topology, seen, f"starting, {time.monotonic() - began:.0f} s"), refresh=True
                    )

            ready_s = await platform.start(progress)
        is_up = True
        if quiet:
            print_json(_ready_event(topology, ready_s))
        else:
            out.print(parts_table(topology, await platform.look(), f"ready after {ready_s:.1f} s"))
            out.print(_addresses(topology), soft_wrap=True)
        await told.wait()
        errors.print("stopping", style="dim")
    except asyncio.CancelledError:
        if not told.is_set():
            raise
    finally:
        await platform.stop()


def _addresses(topology: "Topology") -> str:
    from fivenines.platform.topology import PORTS

    first = topology.regions[0]
    lines = [
        "",
        f"[bold]{topology.spec.platform}[/] runs. Ctrl-C stops it. Try:",
        "",
        f"  curl http://{first.host}:{PORTS.edge}/v1/platform",
        f"  dig @{first.host} -p {PORTS.nameserver} api.{topology.spec.zone} +short",
        f"  export FIVENINES_URL={topology.url} FIVENINES_NAMESERVERS={','.join(topology.nameservers)}",
        f"  fivenines status --watch --folder {topology.folder}",
    ]
    lines += [f"  curl http://{first.host}:{service.edge_port}/" for service in topology.spec.services]
    return "\n".join([*lines, "", f"[dim]logs: {topology.path / 'platform.log'}[/]"])


def _ready_event(topology: "Topology", ready_s: float) -> dict[str, object]:
    return {
        "event": "ready",
        "platform": topology.spec.platform,
        "url": topology.url,
        "nameservers": topology.nameservers,
        "edges": {place.name: topology.edge_url(place.name) for place in topology.regions},
        "ready_s": round(ready_s, 2),
    }


def _check_programs() -> None:
    import shutil

    from fivenines.traffic.edge import find_haproxy

    missing = [] if shutil.which("etcd") else ["etcd-server"]
    missing += [] if find_haproxy() else ["haproxy"]
    if missing:
        raise CommandFailedError(
            f"not installed: {' and '.join(missing)}", hint=f"on Debian and Ubuntu: apt-get install {' '.join(missing)}"
        )


def _check_folders(declared: "Declared", home: Path) -> None:
    """See that services can run where they are declared to. Raises `CommandFailedError` with each line."""
    from fivenines.platform.loading import shown

    missing = []
    for number, service in enumerate(declared.platform.services):
        if not (home / service.folder).is_dir():
            path = ("services", number, "folder")
            mark = declared.mark(path)
            at = f"{declared.file}:{mark.line}" if mark else declared.file
            missing.append(f"{at}: {shown(path)}: {home / service.folder} is no folder")
    if missing:
        raise CommandFailedError("\n".join(missing), hint="a service's folder is named from that of platform.yaml on")


def agent(
    folder: FolderOption,
    region: Annotated[str, typer.Option(help="The region to run.")],
    json: JSON = False,
) -> None:
    """Run one region of a platform; `fivenines up` starts it."""
    from fivenines.platform.local.agent import serve_agent
    from fivenines.platform.local.dying import dying_with_us

    serve_part(partial(serve_agent, before=dying_with_us()), folder, region, json=json)


def serve_part(serve: Callable[..., Coroutine[Any, Any, None]], folder: Path, region: str, *, json: bool) -> None:
    """Run what a region has one of, until it is told to stop.

    Args:
        serve: is given the topology and the region, and `on_ready`, to be called with its URL.
        folder: the platform's.
        region: which one.
        json: whether it says as JSON when it is ready; logs, too.
    """
    import uvloop

    configure_logs(as_json=json)
    with telling_errors():
        topology = read_folder(folder, region)

        def tell_ready(url: str) -> None:
            if json:
                print_json({"event": "ready", "url": url})

        try:
            uvloop.run(serve(topology, region, on_ready=tell_ready))
        except OSError as error:
            raise CommandFailedError(f"{error.strerror}: {error.filename or folder}") from error


def read_folder(folder: Path, region: str | None = None) -> "Topology":
    """Read where everything of a platform is. Raises `CommandFailedError`."""
    import msgspec

    from fivenines.platform.topology import read_topology

    try:
        topology = read_topology(folder)
        if region is not None:
            topology.region(region)
    except KeyError:
        raise CommandFailedError(f"--region: {region!r} is no region of the platform in {folder}") from None
    except OSError as error:
        raise CommandFailedError(
            f"{error.strerror}: {error.filename}", hint="no platform was ever run from there: 'fivenines up' makes it"
        ) from error
    except msgspec.MsgspecError as error:
        raise CommandFailedError(f"{folder}: its platform.json is none of this release: {error}") from error
    return topology
