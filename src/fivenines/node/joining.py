"""Joining: the snapshot that a node begins with, its own or another node's.

A node with an empty disk, with a snapshot that the journal was trimmed beyond, or with one that is far behind, fetches
a newer one from a node that is well. What arrives is written beside, read and checked in full (`snapshots.load`), held
against what its owner said of it to all, and only then named a snapshot. That it fits the journal is looked at by
`recovery`, as with any other.
"""

import asyncio
import contextlib
from pathlib import Path

import httpx
import structlog

from fivenines.journal import SharedJournal
from fivenines.node import snapshots
from fivenines.node.fleet import Member, members_of, snapshot_sources
from fivenines.node.settings import FleetSettings, Identity
from fivenines.node.snapshots import SnapshotDamagedError

__all__ = ["SNAPSHOT_PATH", "SnapshotRefusedError", "bring_snapshot", "fetch"]

_log = structlog.get_logger("fivenines.node")

SNAPSHOT_PATH = "/v1/platform/snapshot"
_CONNECT_S_MAX = 2.0
_READ_S_MAX = 20.0
_CHUNK_BYTES = 1024 * 1024


class SnapshotRefusedError(Exception):
    """What another node sent is not what it said."""


async def bring_snapshot(
    directory: Path, journal: SharedJournal, identity: Identity, settings: FleetSettings | None = None
) -> int | None:
    """See to it that there is a good snapshot to begin with, if there is one anywhere and it pays.

    Returns the position of the one that was fetched, None if none was. That none could be fetched is told and no error:
    recovery says whether the node can do without.

    Raises:
        RulesUnsupportedError: newer rules are in force than this release has.
    """
    settings = settings or FleetSettings()
    own = max(map(snapshots.position_of, snapshots.paths(directory)), default=None)
    sources = snapshot_sources(
        members_of(journal.notices, asyncio.get_running_loop().time()),
        me=identity.name,
        own=own,
        first=journal.first,
        ahead_min=settings.fetch_frames_min,
        silent_s_max=settings.silent_s_max,
    )
    for source in sources:
        try:
            path = await asyncio.to_thread(fetch, source, directory)
        except (OSError, httpx.HTTPError, httpx.InvalidURL, SnapshotDamagedError, SnapshotRefusedError) as error:
            _log.warning("snapshot.not_fetched", node=source.name, url=source.statement.url, reason=str(error))
            continue
        position = snapshots.position_of(path)
        _log.info("snapshot.fetched", node=source.name, position=position, bytes=path.stat().st_size)
        return position
    return None


def fetch(source: Member, directory: Path) -> Path:
    """Fetch another node's newest snapshot into `directory`, check it, and return its path. Blocks.

    Raises:
        SnapshotDamagedError, SnapshotRefusedError: it is not what was written, or not what its owner said.
        RulesUnsupportedError: newer rules are in force than this release has.
        httpx.HTTPError, OSError: it could not be had, or not be kept.
    """
    draft = directory / f"snapshot-from-{source.name}.draft"
    try:
        timeout = httpx.Timeout(_READ_S_MAX, connect=_CONNECT_S_MAX)
        with (
            httpx.Client(base_url=source.statement.url, timeout=timeout, trust_env=False) as http,
            http.stream("GET", SNAPSHOT_PATH) as answer,
        ):
            answer.raise_for_status()
            with draft.open("wb") as file:
                for chunk in answer.iter_bytes(_CHUNK_BYTES):
                    file.write(chunk)
        found = snapshots.load(draft)
        said = source.statement
        if found.state.position < said.snapshot_position:
            raise SnapshotRefusedError(f"it is of {found.state.position}, and {said.snapshot_position} was announced")
        if found.state.position == said.snapshot_position and found.state_digest.hex() != said.snapshot_digest:
            raise SnapshotRefusedError("its digest is not the one that was announced")
        return snapshots.adopt(draft, directory, found.state.position)
    finally:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
