"""`fivenines journal verify|show` and `fivenines snapshot`: the data of a node, looked at from outside."""

import sys
import time
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from rich.table import Table
from rich.text import Text

from fivenines.cli.etcd import register as register_found
from fivenines.cli.output import (
    DATA,
    JSON,
    CommandFailedError,
    bar,
    configure_logs,
    counted,
    out,
    print_json,
    telling_errors,
)

__all__ = ["register"]

_VERIFY_EXAMPLES = """
[bold]Examples[/]

  fivenines journal verify                    every byte of ./data is checked; nothing is changed

  fivenines journal verify --data /srv/ledger --json
"""
_SHOW_EXAMPLES = """
[bold]Examples[/]

  fivenines journal show --from 1200 --to 1210

  fivenines journal show --json | jq .commands
"""
_SNAPSHOT_EXAMPLES = """
[bold]Examples[/]

  fivenines snapshot                          while no server runs on ./data

  fivenines snapshot --json                   with the digest of the whole state
"""
_TOLD_EVERY = 1_000
"""Frames between two steps of a bar."""


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    journal = typer.Typer(
        help="Look at the journal in a folder, beside a server even; begin one in etcd.", no_args_is_help=True
    )
    journal.command(epilog=_VERIFY_EXAMPLES)(verify)
    journal.command(epilog=_SHOW_EXAMPLES)(show)
    register_found(journal)
    app.add_typer(journal, name="journal")
    app.command(epilog=_SNAPSHOT_EXAMPLES)(snapshot)


def verify(data: DATA = "data", json: JSON = False) -> None:
    """Check every byte of the journal: lengths, positions, checksums, the chain of digests. Nothing is changed.

    Exit status 0: sound, or with a torn tail, which the next start cuts. 1: damaged, and file, offset and position are
    named.
    """
    from fivenines.journal.verify import verify as verify_journal

    with telling_errors():
        directory = _journal_directory(data)
        began = time.perf_counter()
        with bar("bytes", quiet=json) as advance:
            verdict = verify_journal(directory, on_progress=partial(advance, "bytes"))
    seconds = time.perf_counter() - began
    if json:
        print_json(
            msgspec.to_builtins(verdict, enc_hook=str, builtin_types=(bytes,))
            | {"last_digest": verdict.last_digest.hex(), "is_sound": verdict.is_sound}
        )
    else:
        out.print(
            f"{counted(verdict.frames, 'frame')}, {counted(verdict.sound_bytes, 'byte')} in "
            f"{counted(verdict.segments, 'segment')}, positions {verdict.first:,} to {verdict.last:,}, {seconds:.2f} s"
        )
        out.print(f"last digest {verdict.last_digest.hex()}")
        if verdict.tail is not None:
            out.print(Text.assemble(("an unfinished write at the end:", "yellow"), f" {verdict.tail}"), soft_wrap=True)
        if verdict.damage is None:
            out.print("[bold green]sound[/]")
    if verdict.damage is not None:
        damage = verdict.damage
        if not json:
            out.print(
                Text.assemble(
                    ("damaged", "bold red"),
                    f": {damage.file}, byte {damage.offset:,}, position {damage.position:,}: {damage.reason}\n"
                    "Everything before it is sound.",
                ),
                soft_wrap=True,
            )
        raise typer.Exit(1)


def show(
    data: DATA = "data",
    start: Annotated[int | None, typer.Option("--from", metavar="POSITION", help="The first position.", min=1)] = None,
    end: Annotated[int | None, typer.Option("--to", metavar="POSITION", help="The last position.", min=1)] = None,
    json: JSON = False,
) -> None:
    """Print what frames carry: all of them, or those from one position to another. With --json one object a line."""
    from fivenines.journal import JournalError
    from fivenines.journal.segments import list_segments
    from fivenines.journal.verify import show as show_frames
    from fivenines.journal.verify import verify as verify_journal
    from fivenines.ledger import CodecError, decode

    if start is not None and end is not None and end < start:
        raise typer.BadParameter(f"{end:,} is before --from {start:,}", param_hint="--to")
    with telling_errors():
        directory = _journal_directory(data)
        first = start if start is not None else list_segments(directory)[0][0]
        shown = 0
        try:
            # Between frames on the same screen a bar would be in the way.
            with bar("frames", quiet=sys.stdout.isatty()) as advance:
                for frame in show_frames(directory, first, None if end is None else end + 1):
                    _show_frame(frame.position, frame.digest, decode(frame.payload), as_json=json)
                    shown += 1
                    if shown % _TOLD_EVERY == 0:
                        advance("frames", shown, None if end is None else end + 1 - first)
        except (JournalError, CodecError) as error:
            raise CommandFailedError(str(error)) from error
        if start is not None and not shown:
            last = verify_journal(directory).last
            raise CommandFailedError(f"there is no frame {start:,}: the journal ends at position {last:,}")


def _show_frame(position: int, digest: bytes, batch: Any, *, as_json: bool) -> None:
    from fivenines.node.history import rfc3339

    commands = [{"command": type(c).__name__} | _plain(msgspec.structs.asdict(c)) for c in batch.commands]
    if as_json:
        head = {"position": position, "time": rfc3339(batch.time_us), "digest": digest.hex()}
        print_json(head | {"writer": batch.writer.hex(), "sequence": batch.sequence, "commands": commands})
        return
    out.print(
        f"[bold]{position:>9,}[/]  {rfc3339(batch.time_us)}  {counted(len(commands), 'command')}  "
        f"[dim]{digest.hex()[:16]}[/]"
    )
    for command in commands:
        name = command.pop("command")
        fields = "  ".join(f"{key}={value}" for key, value in command.items() if value is not None)
        out.print(f"           {name:<14} {fields}", soft_wrap=True, markup=False)


def _plain(value: Any) -> Any:
    from fivenines.ids import as_text
    from fivenines.ledger import Posting

    match value:
        case dict():
            return {key: _plain(item) for key, item in value.items()}
        case Posting():
            return f"{value.source} -> {value.destination}: {value.amount}"
        case tuple() | list():
            return [_plain(item) for item in value]
        case bytes() if len(value) == 16:
            return as_text(value)
        case bytes():
            return value.decode(errors="replace")
        case int() if abs(value) >= 2**53:
            return str(value)
    return value


def snapshot(data: DATA = "data", json: JSON = False) -> None:
    """Write a snapshot of a folder's newest state while no server runs on it, and print the state's digest."""
    from fivenines.journal import FileJournal, JournalError
    from fivenines.ledger import CodecError, RulesUnsupportedError, digest
    from fivenines.node import RecoveryError, recover, snapshots

    configure_logs(as_json=json)
    with telling_errors():
        directory = _journal_directory(data)
        try:
            journal = FileJournal.open(directory)
        except JournalError as error:
            raise CommandFailedError(str(error), hint="a running server writes snapshots by itself") from error
        try:
            recovered = recover(directory, journal)
            path = snapshots.write(directory, recovered.state, journal.last_digest)
        except (JournalError, RecoveryError, CodecError, RulesUnsupportedError, OSError) as error:
            raise CommandFailedError(str(error)) from error
    state = recovered.state
    facts = {
        "file": str(path),
        "position": state.position,
        "bytes": path.stat().st_size,
        "accounts": len(state.accounts),
        "holds_open": len(state.holds),
        "decided_ids": len(state.decided),
        "digest": digest(state).hex(),
    }
    if json:
        print_json(facts)
        return
    table = Table(box=None, show_header=False, padding=(0, 2))
    for name, value in facts.items():
        table.add_row(name.replace("_", " "), Text(f"{value:,}" if isinstance(value, int) else str(value)))
    out.print(table, soft_wrap=True)


def _journal_directory(data: str) -> Path:
    directory = Path(data)
    if not any(directory.glob("journal-*.log")):
        raise CommandFailedError(
            f"there is no journal in {directory.resolve()}", hint="--data names the folder of a node"
        )
    return directory
