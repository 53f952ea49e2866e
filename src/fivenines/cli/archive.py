"""`fivenines historian`, `restore`, `verify-backup` and `archive`: history in object storage, and back from it."""

import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Column, Table
from rich.text import Text

from fivenines.cli.etcd import JOURNAL, AuthoritiesOption, CertificateOption, KeyOption, etcd_settings, open_journal
from fivenines.cli.history import check_database
from fivenines.cli.output import (
    JSON,
    CommandFailedError,
    bar,
    configure_logs,
    counted,
    errors,
    out,
    print_json,
    telling_errors,
)

if TYPE_CHECKING:
    from fivenines.historian.restoring import Restored, Target
    from fivenines.journal.archive import Store
    from fivenines.journal.etcd import EtcdJournalSettings

__all__ = ["register"]

_ARCHIVE = typer.Option(
    "--archive",
    metavar="URL",
    help="A store: file:///srv/archive, s3://bucket/prefix?region=eu-west-1, gs://..., az://...; the nearest first.",
    envvar="FIVENINES_ARCHIVE",
)
_FREE_HINT = "a restored journal wants an etcd without one, or another path: etcd://HOST:PORT/restored"
_SETTLED_S = 4
"""For so long nothing may come into the archive, after the old journal was closed, before it is taken for all."""

ArchiveOption = Annotated[list[str], _ARCHIVE]
PositionOption = Annotated[
    int | None, typer.Option("--to-position", metavar="N", help="Restore up to this position.", min=1)
]
TimeOption = Annotated[
    str | None,
    typer.Option("--to-time", metavar="TIME", help="Restore up to this time, such as 2026-03-01T09:30:00Z."),
]
LatestOption = Annotated[bool, typer.Option("--latest", help="Restore all that is archived.")]

_HISTORIAN_EXAMPLES = """
[bold]Examples[/]

  fivenines historian --journal etcd://etcd1:2379,etcd2:2379,etcd3:2379 --region eu-west --name eu-west-history \\
      --archive s3://books-eu-west --peer s3://books-eu-north --peer s3://books-us-east

  fivenines historian --journal etcd://localhost:2379 --region here --name history --archive one --archive two
                                              one historian that writes to two folders
"""
_RESTORE_EXAMPLES = """
[bold]Examples[/]

  fivenines restore --latest --archive s3://books-eu-west --archive s3://books-us-east \\
      --journal etcd://new1:2379,new2:2379,new3:2379 --data /srv/node
                                              a new journal in an empty etcd, and a folder for its first node

  fivenines restore --to-time 2026-03-01T09:30:00Z --archive archive --data restored
                                              the books of that time in one folder, for 'fivenines serve'
"""
_VERIFY_EXAMPLES = """
[bold]Examples[/]

  fivenines verify-backup --archive s3://books-eu-west --archive s3://books-us-east
                                              once a day: exit status 1 and a reason when the books cannot be restored
"""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command(epilog=_HISTORIAN_EXAMPLES)(historian)
    app.command(epilog=_RESTORE_EXAMPLES)(restore)
    app.command(name="verify-backup", epilog=_VERIFY_EXAMPLES)(verify_backup)
    archive = typer.Typer(help="Look into an archive, and check and repair it.", no_args_is_help=True)
    archive.command(name="list")(list_archive)
    archive.command()(scrub)
    app.add_typer(archive, name="archive")


def historian(
    archive: ArchiveOption,
    journal: Annotated[str, JOURNAL],
    region: Annotated[str, typer.Option(help="The region that this historian is in.")],
    name: Annotated[str, typer.Option(help="Its own name, the same after a restart.")],
    peer: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="URL", help="Another region's store, to repair from; repeat for each."),
    ] = None,
    data: Annotated[str, typer.Option("--data", metavar="DIR", help="The folder for what waits.")] = "history",
    sql: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Where history is kept in SQL: postgresql://USER@HOST/NAME, or 'off'. Default: SQLite in --data.",
            envvar="FIVENINES_SQL",
        ),
    ] = None,
    secrets: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Files with what webhooks are signed with, named by its name.")
    ] = None,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on; 0 takes a free one.", min=0, max=65535)] = 9960,
    copies: Annotated[
        int, typer.Option(help="The journal lets go of frames that are in so many stores.", min=1, max=16)
    ] = 2,
    seal_s: Annotated[
        float, typer.Option(metavar="SECONDS", help="How old a frame gets before it is archived.", min=0.1)
    ] = 5.0,
    segment_mib: Annotated[int, typer.Option(metavar="MIB", help="... or how many of them.", min=1, max=256)] = 8,
    snapshot_every: Annotated[
        int, typer.Option(metavar="COMMANDS", help="Archive a snapshot after so many commands.", min=1)
    ] = 2_000_000,
    spool_mib: Annotated[
        int, typer.Option(metavar="MIB", help="What may wait on the disk for stores that are out of reach.", min=16)
    ] = 4_096,
    keep_days: Annotated[
        float | None,
        typer.Option(metavar="DAYS", help="Every position so far back can be restored; default: all.", min=0.001),
    ] = None,
    scrub_hours: Annotated[
        float, typer.Option(metavar="HOURS", help="Within this time every object is checked once.", min=0.001)
    ] = 24.0,
    journal_ca: AuthoritiesOption = None,
    journal_cert: CertificateOption = None,
    journal_key: KeyOption = None,
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, logs too.")] = False,
) -> None:
    """Keep history until Ctrl-C or SIGTERM: frames and snapshots go to object storage.

    Run one in each region, each with its own store. Nodes neither need nor await it: when it is back it goes on from
    where it was.
    """
    import uvloop

    configure_logs(as_json=json)

    def tell_ready(url: str) -> None:
        if json:
            print_json({"event": "ready", "url": url})
        else:
            errors.print(
                f"[bold green]fivenines[/] keeps history in [bold]{', '.join(archive)}[/]\n"
                f"How it is: {url}/v1/historian. Ctrl-C stops it.",
                soft_wrap=True,
            )

    with telling_errors(), _telling_archive_errors():
        etcd = etcd_settings(journal, journal_ca, journal_cert, journal_key)
        from fivenines.historian.historian import HistorianSettings, keep_history
        from fivenines.historian.settings import ArchiveSettings, Retention
        from fivenines.journal import JournalLockedError
        from fivenines.journal.archive import open_store
        from fivenines.ledger import CodecError, RulesUnsupportedError
        from fivenines.node import Identity

        for url in (*archive, *(peer or ())):
            open_store(url)  # raises before anything is made

        if sql not in {None, "off"}:
            check_database(sql)
        try:
            identity = Identity(name=name, region=region)
        except ValueError as error:
            raise CommandFailedError(f"--{error}") from error
        settings = HistorianSettings(
            directory=Path(data),
            identity=identity,
            stores=tuple(archive),
            peers=tuple(peer or ()),
            sql=sql,
            secrets=secrets,
            host=host,
            port=port,
            archive=ArchiveSettings(
                copies=copies,
                seal_s=seal_s,
                segment_bytes=segment_mib * 1024 * 1024,
                snapshot_commands=snapshot_every,
                spool_bytes_max=spool_mib * 1024 * 1024,
                scrub_s=scrub_hours * 3_600,
                retention=Retention(keep_s=None if keep_days is None else keep_days * 86_400),
            ),
        )
        try:
            uvloop.run(keep_history(settings, partial(open_journal, etcd), on_ready=tell_ready))
        except JournalLockedError as error:
            raise CommandFailedError(
                str(error), hint="one folder has one historian: stop the other, or choose another --data"
            ) from error
        except (CodecError, RulesUnsupportedError) as error:
            raise CommandFailedError(str(error), hint="it takes a newer release") from error
        except OSError as error:
            raise CommandFailedError(f"{error.strerror or error}: {error.filename or f'{host}:{port}'}") from error


def restore(
    archive: ArchiveOption,
    data: Annotated[
        list[str],
        typer.Option("--data", metavar="DIR", help="An empty folder for a node to start from; repeat for each."),
    ],
    to_position: PositionOption = None,
    to_time: TimeOption = None,
    latest: LatestOption = False,
    epoch: Annotated[
        int | None,
        typer.Option(help="Of an archive that was restored from before: whose history. Default: the newest.", min=1),
    ] = None,
    journal: Annotated[str | None, JOURNAL] = None,
    fence: Annotated[
        str | None,
        typer.Option(
            metavar="etcd://HOST:PORT,...",
            help="The old journal, if it may still answer: nobody writes there any more.",
        ),
    ] = None,
    journal_ca: AuthoritiesOption = None,
    journal_cert: CertificateOption = None,
    journal_key: KeyOption = None,
    json: JSON = False,
) -> None:
    """Rebuild a ledger from object storage alone: up to a position, a time, or all that was archived.

    With --journal a new journal is begun in an empty etcd, as the next epoch: what still runs of the old one can not
    write there, nor the other way round. Without, the journal is in the folder, for a ledger in one process.
    """
    import asyncio

    configure_logs(as_json=json)
    target = _target(to_position, to_time, latest=latest)
    with telling_errors(), _telling_archive_errors():
        if fence is not None and journal is None:
            raise CommandFailedError("--fence: it goes with --journal, in which the ledger goes on")
        if fence is not None and fence == journal:
            raise CommandFailedError("--fence: it names the new journal; it is the old one that is to be closed")
        if len(set(data)) < len(data):
            raise CommandFailedError("--data: it names a folder twice")
        etcd = None if journal is None else etcd_settings(journal, journal_ca, journal_cert, journal_key)
        old = None if fence is None else etcd_settings(fence, journal_ca, journal_cert, journal_key)
        from fivenines.historian.rebuilding import begin_folder, begin_journal_in, check_is_empty
        from fivenines.historian.restoring import begin_epoch, next_epoch
        from fivenines.historian.restoring import restore as restore_state

        folders = [Path(each) for each in data]
        for folder in folders:
            check_is_empty(folder)
        stores = _stores(archive)
        number = None
        if etcd is not None:
            # Nothing is closed or begun before it is known that it can be begun.
            number = next_epoch(stores)
            asyncio.run(_make_ready(etcd, old, number, stores))
        with (
            TemporaryDirectory(prefix=".restoring-", dir=_nearest(folders[0])) as scratch,
            bar("frames", quiet=json) as advance,
        ):
            restored = restore_state(
                *(stores, target, Path(scratch)),
                epoch=epoch,
                on_progress=lambda done, total: advance("frames", done, total),
            )
        for folder in folders:
            (begin_journal_in if etcd is None else begin_folder)(folder, restored)
        if etcd is not None and number is not None:
            asyncio.run(_begin_journal(etcd, restored, number))
            # Last of all: what failed before has left no trace in the archive.
            _, failed = begin_epoch(stores, restored, number)
            for error in failed:
                errors.print(Text(f"warning: {error}; it learns of the new epoch from a historian's scrub"))
    facts = _facts(restored) | {"new_epoch": number, "folders": [str(each) for each in folders]}
    if json:
        print_json(facts)
        return
    _show(facts)
    _tell_end(restored, to_time)


async def _make_ready(
    etcd: "EtcdJournalSettings", old: "EtcdJournalSettings | None", number: int, stores: "list[Store]"
) -> None:
    """See to it that the new journal can be begun, and close the old one, if it may still answer."""
    import asyncio

    from fivenines.journal import JournalError
    from fivenines.journal.archive import Archive
    from fivenines.journal.etcd import check_free, fence

    try:
        await check_free(etcd)
        if old is None:
            return
        await fence(old, number)
    except JournalError as error:
        raise CommandFailedError(str(error), hint=_FREE_HINT) from error
    # What it acknowledged at last is with its historians, who archive it now.
    archive, reached, same_s = Archive(stores), -1, 0
    while same_s < _SETTLED_S:
        await asyncio.sleep(1.0)
        await asyncio.to_thread(archive.look)
        now = archive.reach(archive.newest_epoch, 1)
        same_s = same_s + 1 if now == reached else 0
        reached = now


async def _begin_journal(etcd: "EtcdJournalSettings", restored: "Restored", number: int) -> None:
    from fivenines.journal import JournalError
    from fivenines.journal.etcd import found

    try:
        await found(etcd, epoch=number, position=restored.state.position, digest=restored.frame_digest)
    except JournalError as error:
        raise CommandFailedError(str(error), hint=_FREE_HINT) from error


def verify_backup(
    archive: ArchiveOption,
    to_position: PositionOption = None,
    to_time: TimeOption = None,
    scratch: Annotated[
        str, typer.Option(metavar="DIR", help="Where there is room for the restored ledger, for a while.")
    ] = ".",
    quick: Annotated[
        bool, typer.Option("--quick", help="From the last snapshots on only, not from the beginning.")
    ] = False,
    json: JSON = False,
) -> None:
    """Restore a backup in a folder that is removed again, start from it as a node does, and compare.

    All frames are applied from the first one on, and all snapshots that come by are compared with what comes of them.
    Exit status 1 when anything is not as it was.
    """
    configure_logs(as_json=json)
    target = _target(to_position, to_time, latest=to_position is None and to_time is None)
    with telling_errors(), _telling_archive_errors():
        from fivenines.historian.rebuilding import verify_backup as verify

        with bar("frames", quiet=json) as advance:
            backup = verify(
                _stores(archive),
                target,
                Path(scratch),
                thorough=not quick,
                on_progress=lambda done, total: advance("frames", done, total),
            )
    restored = backup.restored
    facts = _facts(restored) | {
        "restore_s": round(backup.restore_s, 3),
        "start_s": round(backup.recover_s, 3),
        "commands_per_s": round(restored.commands / max(backup.restore_s, 0.001)),
    }
    if json:
        print_json(facts)
        return
    _show(facts)
    _tell_end(restored, to_time)
    out.print("[bold green]this backup can be restored[/]")


def list_archive(archive: ArchiveOption, json: JSON = False) -> None:
    """Show what is in the stores: segments, snapshots, and how far each reaches."""
    configure_logs(as_json=json)
    rows: list[dict[str, Any]] = []
    with telling_errors(), _telling_archive_errors():
        from fivenines.journal.archive import catalogue_of, gaps

        for store in _stores(archive):
            found = catalogue_of(store)
            for epoch in sorted(found.named_epochs):
                names = found.segments_of(epoch)
                kept = [name for name in found.snapshots if name.epoch == epoch]
                rows.append(
                    {
                        "store": store.name,
                        "epoch": epoch,
                        "segments": len(names),
                        "first": min((name.first for name in names), default=None),
                        "last": max((name.last for name in names), default=None),
                        "gaps": gaps(names),
                        "snapshots": len(kept),
                        "newest_snapshot": max((name.position for name in kept), default=None),
                        "bytes": sum(found.segments[name] for name in names) + sum(found.snapshots[n] for n in kept),
                    }
                )
    if json:
        print_json({"stores": rows})
        return
    named = ("epoch", "segments", "positions", "gaps", "snapshots", "newest", "MiB")
    table = Table(Column("store", overflow="fold"), *named)
    for row in rows:
        table.add_row(
            Text(str(row["store"])),
            str(row["epoch"]),
            f"{row['segments']:,}",
            f"{row['first'] or 0:,} to {row['last'] or 0:,}",
            ", ".join(f"{first:,}-{last:,}" for first, last in row["gaps"]) or "none",
            f"{row['snapshots']:,}",
            f"{row['newest_snapshot'] or 0:,}",
            f"{row['bytes'] / 2**20:,.1f}",
        )
    out.print(table)


def scrub(
    archive: ArchiveOption,
    json: JSON = False,
) -> None:
    """Read and check every object of every store, and write anew from another one what is not as it was.

    Exit status 1 when there is something of which no store has a good copy.
    """
    configure_logs(as_json=json)
    with telling_errors(), _telling_archive_errors():
        from fivenines.historian.settings import ArchiveSettings
        from fivenines.historian.tidying import Tidier
        from fivenines.journal.archive import catalogue_of

        stores = _stores(archive)
        tidier = Tidier(stores, [], 0, ArchiveSettings())
        with bar("stores", quiet=json) as advance:
            for number, store in enumerate(stores):
                found = catalogue_of(store)
                tidier.scrub(store, [*sorted(found.segments), *sorted(found.snapshots)], is_whole=True)
                advance("stores", number + 1, len(stores))
    facts = {"checked": tidier.scrubbed, "repaired": tidier.repaired, "beyond_repair": tidier.beyond_repair}
    if json:
        print_json(facts)
    else:
        out.print(
            f"{counted(tidier.scrubbed, 'object')} checked, {tidier.repaired:,} repaired, "
            f"{tidier.beyond_repair:,} beyond repair"
        )
    if tidier.beyond_repair:
        raise typer.Exit(1)


# --- what they share -------------------------------------------------------------------------------------------------


class _telling_archive_errors:  # noqa: N801 - it reads like `telling_errors`
    """Turn an archive's errors into `CommandFailedError`."""

    def __enter__(self) -> None:
        try:
            import fivenines.journal.archive  # noqa: F401 - whether it can be had
        except ImportError as error:
            raise CommandFailedError(
                f"history needs what is not installed: {error.name}", hint="pip install 'fivenines[history]'"
            ) from error

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        from fivenines.journal.archive import ArchiveError, StoreUrlError
        from fivenines.ledger import CodecError, RulesUnsupportedError

        if isinstance(error, StoreUrlError):
            raise CommandFailedError(f"--archive, --peer: {error}") from error
        if isinstance(error, ArchiveError | CodecError | RulesUnsupportedError):
            raise CommandFailedError(str(error)) from error
        if isinstance(error, OSError):
            raise CommandFailedError(f"{error.strerror or error}: {error.filename or ''}".rstrip(": ")) from error


def _stores(urls: list[str]) -> "list[Store]":
    from fivenines.journal.archive import open_store

    return [open_store(url, make=False) for url in urls]


def _target(position: int | None, time: str | None, *, latest: bool) -> "Target":
    from fivenines.historian.restoring import Target

    if sum((position is not None, time is not None, latest)) != 1:
        raise typer.BadParameter("say one of --to-position, --to-time and --latest", param_hint="the target")
    if time is None:
        return Target(position=position)
    try:
        moment = datetime.datetime.fromisoformat(time)
    except ValueError as error:
        raise typer.BadParameter(f"{time!r} is no time such as 2026-03-01T09:30:00Z", param_hint="--to-time") from error
    if moment.tzinfo is None:
        raise typer.BadParameter(f"{time!r} has no time zone: end it with Z for UTC", param_hint="--to-time")
    since = moment - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
    return Target(time_us=since // datetime.timedelta(microseconds=1))


def _nearest(folder: Path) -> Path:
    """Return the folder, or the one above it that is there: what is written there is on the same disk."""
    return folder if folder.is_dir() else _nearest(folder.absolute().parent)


def _tell_end(restored: "Restored", time: str | None) -> None:
    """Say when what was asked for may have been later than all that is archived."""
    if time is not None and restored.is_at_the_end:
        errors.print(
            Text("warning: nothing later than this is archived; there may have been more before the time asked")
        )


def _facts(restored: "Restored") -> dict[str, Any]:
    from fivenines.node.history import rfc3339

    state = restored.state
    return {
        "epoch": restored.epoch,
        "position": state.position,
        "time": rfc3339(state.time_us),
        "digest": restored.state_digest.hex(),
        "accounts": len(state.accounts),
        "holds_open": len(state.holds),
        "begun_at": restored.begun_at,
        "frames": restored.frames,
        "commands": restored.commands,
        "snapshots_compared": restored.compared,
        "copies_done_without": restored.damaged,
        "ends_with_archive": restored.is_at_the_end,
    }


def _show(facts: dict[str, Any]) -> None:
    table = Table("name", Column("value", overflow="fold"), box=None, show_header=False, padding=(0, 2))
    for name, value in facts.items():
        match value:
            case list():
                text = ", ".join(f"{each:,}" if isinstance(each, int) else str(each) for each in value) or "none"
            case int():
                text = f"{value:,}"
            case _:
                text = "none" if value is None else str(value)
        table.add_row(name.replace("_", " "), Text(text))
    out.print(table, soft_wrap=True)
