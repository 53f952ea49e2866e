"""Writes the files of a report: the only part here that touches a disk."""

import time
from collections.abc import Sequence
from pathlib import Path

from fivenines.drill.reporting.formats import SCHEMA, Report, decode, encode, encode_short, fingerprint
from fivenines.drill.reporting.junit import junit
from fivenines.drill.reporting.page import page
from fivenines.drill.results import DrillResult

__all__ = ["read", "write", "write_report"]


def write(
    results: Sequence[DrillResult], folder: Path, *, commands: Sequence[str] = (), written_at: float | None = None
) -> list[Path]:
    """Write all files of a report, and return their paths: the page, both JSON files, JUnit's.

    Args:
        results: what came of each drill.
        folder: where to; it is made if need be.
        commands: what repeats all of it; left out, one for all drills of the same seed and rate.
        written_at: Unix time; left out, now.

    Raises:
        OSError: a file cannot be written.
    """
    at = time.time() if written_at is None else written_at
    return write_report(Report(schema=SCHEMA, written_at=at, commands=tuple(commands), results=tuple(results)), folder)


def write_report(report: Report, folder: Path) -> list[Path]:
    """Write all files of a report that was made before: the same report gives the same bytes.

    Raises:
        OSError: a file cannot be written.
    """
    # What is on the page is what is in the file: all is made from what reading the file gives, where 5 is 5.0.
    report = decode(encode(report))
    full = encode(report)
    contents = {
        "drills.html": page(report, sha256=fingerprint(full)).encode(),
        "drills.json": encode_short(report.results),
        "drills-full.json": full,
        "junit.xml": junit(report.results, written_at=report.written_at),
    }
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, data in contents.items():
        path = folder / name
        draft = folder / f".{name}.part"
        draft.write_bytes(data)
        draft.replace(path)
        paths.append(path)
    return paths


def read(path: Path) -> Report:
    """Read drills-full.json.

    Raises:
        ReportUnreadableError: it is something else, or of a later schema.
        OSError: it cannot be read.
    """
    return decode(path.read_bytes())
