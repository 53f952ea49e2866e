"""What the commands of history say when they are asked for what cannot be."""

import subprocess
import sys
from pathlib import Path

import pytest

from fivenines.journal.archive import open_store
from tests.integration.archive.lives import archive_life, make_life


def fivenines(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fivenines", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


HISTORIAN = ("historian", "--journal", "etcd://127.0.0.1:1", "--name", "h")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((*HISTORIAN, "--region", "here", "--archive", "s3://x?foo=1"), "there is no option 'foo'"),
        ((*HISTORIAN, "--region", "a b", "--archive", "{tmp}/a"), "--region is 1 to 64 characters"),
        (
            (*HISTORIAN, "--region", "here", "--archive", "{tmp}/a", "--sql", "foo://x"),
            "--sql: 'foo://x' names no database",
        ),
        (
            ("historian", "--journal", "x", "--name", "h", "--region", "r", "--archive", "{tmp}/a"),
            "--journal: 'x' does",
        ),
        (("restore", "--latest", "--archive", "{tmp}/none", "--data", "{tmp}/d"), "there is no folder"),
        (("restore", "--latest", "--archive", "{tmp}/empty", "--data", "{tmp}/d"), "there is no archive in"),
        (("restore", "--archive", "{tmp}/empty", "--data", "{tmp}/d"), "say one of --to-position"),
        (("restore", "--to-time", "now", "--archive", "{tmp}/empty", "--data", "{tmp}/d"), "'now' is no time such as"),
        (
            ("restore", "--to-time", "2026-01-01T00:00:00", "--archive", "{tmp}/empty", "--data", "{tmp}/d"),
            "no time zone",
        ),
        (("restore", "--to-position", "99", "--archive", "{tmp}/full", "--data", "{tmp}/d"), "position 99 cannot be"),
        (("restore", "--latest", "--archive", "{tmp}/full", "--data", "{tmp}/used"), "holds a ledger's data already"),
        (
            ("restore", "--latest", "--archive", "{tmp}/full", "--data", "{tmp}/d", "--fence", "etcd://127.0.0.1:1"),
            "--fence: it goes with --journal",
        ),
        (
            ("restore", "--latest", "--archive", "{tmp}/full", "--data", "{tmp}/d", "--journal", "etcd://127.0.0.1:1"),
            "no member answers",
        ),
        (
            ("restore", "--latest", "--archive", "{tmp}/full", "--data", "{tmp}/d", "--epoch", "7"),
            "there is no epoch 7",
        ),
        (
            ("restore", "--latest", "--archive", "{tmp}/full", "--data", "{tmp}/d", "--data", "{tmp}/d"),
            "a folder twice",
        ),
        (("restore", "--latest", "--archive", "{tmp}/full", "--data", "/proc/x"), "/proc"),
        (("verify-backup", "--archive", "{tmp}/empty", "--scratch", "{tmp}"), "there is no archive in"),
        (("archive", "list", "--archive", "{tmp}/none"), "there is no folder"),
        (("history", "switch", "2", "--sql", "sqlite:///{tmp}/h.db"), "no such table"),
        (("history", "build", "9", "--sql", "sqlite:///{tmp}/h.db"), "this release has no version 9"),
    ],
)
def test_what_cannot_be_is_told_in_a_line_and_nothing_is_left(
    tmp_path: Path, arguments: tuple[str, ...], says: str
) -> None:
    (tmp_path / "empty").mkdir()
    life = make_life(tmp_path, frames=10, snapshots_at=(5,))
    archive_life(open_store(str(tmp_path / "full")), life)
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "journal-00000000000000000001.log").touch()
    done = fivenines(*(each.format(tmp=tmp_path) for each in arguments), cwd=tmp_path)
    assert done.returncode in {1, 2}
    assert says in " ".join(done.stderr.replace("│", " ").split()), done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "d").exists()
    assert not list((tmp_path / "full").rglob("*epoch.json"))
    assert not (tmp_path / "history").exists()
    assert not list(tmp_path.glob(".restoring*"))


def test_a_backup_is_verified_listed_and_scrubbed(tmp_path: Path) -> None:
    life = make_life(tmp_path, frames=30, snapshots_at=(10, 20))
    for name, size in (("one", 4), ("two", 7)):
        archive_life(open_store(str(tmp_path / name)), life, size=size)
    both = ("--archive", str(tmp_path / "one"), "--archive", str(tmp_path / "two"))
    verified = fivenines("verify-backup", *both, "--scratch", str(tmp_path))
    assert verified.returncode == 0, verified.stderr
    assert "this backup can be restored" in verified.stdout
    assert life.digests[30].hex() in verified.stdout.replace("\n", "").replace(" ", "")
    assert fivenines("archive", "list", *both).stdout.count("1 to 30") == 2
    first = min((tmp_path / "one" / "epochs").rglob("segments/*"))
    first.write_bytes(first.read_bytes()[:-1])
    scrubbed = fivenines("archive", "scrub", *both)
    assert (scrubbed.returncode, "1 repaired, 0 beyond repair" in scrubbed.stdout) == (0, True), scrubbed.stdout
    for name in ("one", "two"):
        for path in (tmp_path / name / "epochs").rglob("segments/*"):
            path.write_bytes(b"")
    ruined = fivenines("archive", "scrub", *both)
    assert ruined.returncode == 1
    assert fivenines("verify-backup", *both, "--scratch", str(tmp_path)).returncode == 1
