"""`fivenines serve`: a ledger in one process, on a journal of its own or on one that many nodes share."""

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

import typer

from fivenines.cli.etcd import JOURNAL, AuthoritiesOption, CertificateOption, KeyOption, etcd_settings, open_journal
from fivenines.cli.output import DATA, CommandFailedError, bar, configure_logs, errors, print_json, telling_errors

if TYPE_CHECKING:
    from fivenines.node import Identity, Node

__all__ = ["register"]

_EXAMPLES = """
[bold]Examples[/]

  fivenines serve                              a ledger in ./data, at http://127.0.0.1:9959
  fivenines serve --data /srv/ledger --port 0  another folder, a free port
  fivenines serve --json | head -1             {"event":"ready","url":...} for a program to wait for

  fivenines serve --journal etcd://etcd1:2379,etcd2:2379,etcd3:2379 --region eu-west --name eu-west-1
                                               one of the nodes of a ledger in three regions
"""

_QUEUE, _QUEUE_SHARED = 256, 4_096
_SNAPSHOT_BYTES_SHARED = 96 * 1024 * 1024
_APPENDS_SHARED = 4


def register(app: typer.Typer) -> None:
    """Add the command to `app`."""
    app.command(epilog=_EXAMPLES)(serve)


def serve(
    data: DATA = "data",
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)] = 9959,
    snapshot_every: Annotated[
        int, typer.Option(metavar="COMMANDS", help="Write a snapshot after so many commands.", min=1)
    ] = 2_000_000,
    queue: Annotated[
        int | None,
        typer.Option(
            metavar="REQUESTS",
            help=f"Writes that may wait; more are answered 503. Default: {_QUEUE}, or {_QUEUE_SHARED} on a journal in "
            "etcd, where they wait for elections too.",
            min=1,
        ),
    ] = None,
    keep_frames: Annotated[
        int | None,
        typer.Option(
            metavar="N", help="Trim frames behind snapshots and farther back than N; default: keep all.", min=1
        ),
    ] = None,
    journal: Annotated[str | None, JOURNAL] = None,
    region: Annotated[str | None, typer.Option(help="With --journal: the region that this node is in.")] = None,
    name: Annotated[
        str | None, typer.Option(help="With --journal: the node's own name, the same after a restart.")
    ] = None,
    advertise: Annotated[
        str,
        typer.Option(metavar="URL", help="With --journal: where others reach this node, if not where it listens."),
    ] = "",
    keep_tail: Annotated[
        int, typer.Option(metavar="MIB", help="With --journal: how much of the journal etcd keeps.", min=1)
    ] = 512,
    journal_quota: Annotated[
        int,
        typer.Option(metavar="MIB", help="With --journal: the members' --quota-backend-bytes, in MiB.", min=16),
    ] = 2_048,
    journal_ca: AuthoritiesOption = None,
    journal_cert: CertificateOption = None,
    journal_key: KeyOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, logs too.")] = False,
) -> None:
    """Serve a ledger until Ctrl-C or SIGTERM: from a folder, or with --journal as one of many nodes.

    The folder is made if it is not there. Everything that was acknowledged is on its disk, or on those of a majority
    of etcd's members: however the process ends, the next start goes on from there.
    """
    import uvloop

    from fivenines.journal import JournalDamagedError, JournalError, JournalLockedError
    from fivenines.ledger import CodecError, RulesUnsupportedError
    from fivenines.node import FleetSettings, Limits, NodeSettings, RecoveryError
    from fivenines.node.region import RegionSettings, serve_in_region
    from fivenines.node.server import ServeSettings
    from fivenines.node.server import serve as serve_node

    configure_logs(as_json=json)
    bars = _Bars(quiet=json)
    directory = Path(data)
    where = str(directory.resolve())

    def tell_ready(node: "Node", url: str) -> None:
        bars.stop()
        if json:
            print_json({"event": "ready", "url": url, "position": node.replica.position})
        else:
            errors.print(
                f"[bold green]fivenines[/] serves [bold]{url}[/] from [bold]{where}[/] "
                f"(position {node.replica.position:,}, {len(node.state.accounts):,} accounts)\n"
                f"Try {url}/docs in a browser. Ctrl-C stops it.",
                soft_wrap=True,
            )

    with telling_errors(), bars:
        try:
            if journal is None:
                limits = Limits(queue_requests_max=queue or _QUEUE)
                settings = ServeSettings(
                    directory=directory,
                    host=host,
                    port=port,
                    node=NodeSettings(snapshot_commands=snapshot_every, journal_frames_kept=keep_frames, limits=limits),
                )
                serving = serve_node(settings, on_ready=tell_ready, on_check=bars.check, on_progress=bars.replay)
            else:
                etcd = etcd_settings(journal, journal_ca, journal_cert, journal_key, quota_mib=journal_quota)
                if keep_tail * 2 > journal_quota:
                    raise CommandFailedError(
                        f"--keep-tail: {keep_tail} MiB want a quota of twice as much, not {journal_quota} MiB",
                        hint="raise --quota-backend-bytes of all members, and --journal-quota with it",
                    )
                where = f"the journal {etcd.prefix} of {', '.join(etcd.endpoints)}"
                shared = RegionSettings(
                    directory=directory,
                    identity=_identity(name, region, advertise),
                    host=host,
                    port=port,
                    node=NodeSettings(
                        appends_in_flight_max=_APPENDS_SHARED,
                        snapshot_commands=snapshot_every,
                        snapshot_journal_bytes=_SNAPSHOT_BYTES_SHARED,
                        limits=Limits(queue_requests_max=queue or _QUEUE_SHARED),
                    ),
                    fleet=FleetSettings(
                        tail_bytes_max=keep_tail * 1024 * 1024,
                        unarchived_bytes_max=min(2 * keep_tail, journal_quota // 2) * 1024 * 1024,
                    ),
                )
                serving = serve_in_region(
                    shared, partial(open_journal, etcd), on_ready=tell_ready, on_progress=bars.replay
                )
            uvloop.run(serving)
        except JournalLockedError as error:
            raise CommandFailedError(
                str(error), hint="one folder has one server: stop the other, or choose another --data"
            ) from error
        except JournalDamagedError as error:
            raise CommandFailedError(
                str(error),
                hint=f"nothing was changed. 'fivenines journal verify --data {data}' shows all; bring back a good copy",
            ) from error
        except RulesUnsupportedError as error:
            raise CommandFailedError(
                str(error),
                hint="it takes a newer release: 'fivenines rules show', asked of another node, names one that can",
            ) from error
        except (JournalError, RecoveryError, CodecError) as error:
            raise CommandFailedError(str(error)) from error
        except OSError as error:
            raise CommandFailedError(
                f"{error.strerror}: {error.filename or f'{host}:{port}'}", hint=_hint(error)
            ) from error


def _identity(name: str | None, region: str | None, url: str) -> "Identity":
    from fivenines.node import Identity

    if name is None or region is None:
        raise CommandFailedError(
            "a node on a journal in etcd needs a --name and a --region",
            hint="for instance --region eu-west --name eu-west-1; the name is the node's own, and stays the same",
        )
    try:
        return Identity(name=name, region=region, url=url)
    except ValueError as error:
        raise CommandFailedError(f"--{error}") from error


def _hint(error: OSError) -> str:
    import errno

    if error.errno == errno.EADDRINUSE:
        return "another program listens there: choose another with --port, or 0 for a free one"
    if error.errno in {errno.EACCES, errno.EPERM}:
        return "choose a folder that you may write to, with --data"
    return ""


class _Bars:
    """The bars of a start, one after the other: the journal is checked, and then replayed."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._shown = ""
        self._advance: Callable[[str, int, int | None], None]
        self._stack = ExitStack()

    def check(self, done_bytes: int, total_bytes: int) -> None:
        """Show how far the check of the journal has come."""
        self._show("checking the journal, MB", done_bytes // 1_000_000, total_bytes // 1_000_000)

    def replay(self, done: int, total: int) -> None:
        """Show how far the replay has come."""
        self._show("replaying the journal, frames", done, total)

    def _show(self, what: str, done: int, total: int) -> None:
        if what != self._shown:
            self.stop()
            self._shown = what
            self._advance = self._stack.enter_context(bar(what, quiet=self._quiet))
        self._advance(what, done, total)

    def stop(self) -> None:
        """Take the bar away."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
