"""The spool: what is sealed, on the historian's own disk, until every store has it.

A stop of the object storage stops nothing: segments and snapshots wait here, in a folder that is an archive itself, and
are carried over by one `Carrier` for each store. What all stores have is deleted.
"""

import asyncio

import structlog

from fivenines.journal.archive import (
    ArchiveError,
    Catalogue,
    ObjectDamagedError,
    ObjectName,
    SegmentName,
    SnapshotName,
    Store,
    catalogue_of,
    check_object,
)
from fivenines.journal.archive.objects import path_through

__all__ = ["Carrier", "Spool"]

_log = structlog.get_logger("fivenines.historian")

_PAUSE_S_MIN, _PAUSE_S_MAX = 0.5, 15.0


class Spool:
    """The objects that wait. All of it belongs to one event loop; what blocks runs in threads.

    Args:
        store: the folder.
        stores: how many stores there are to carry to.
    """

    def __init__(self, store: Store, stores: int) -> None:
        self.store = store
        self.bytes = 0
        self._stores = stores
        self._waiting: dict[ObjectName, int] = {}
        self._lacking: dict[ObjectName, int] = {}
        self._news: list[asyncio.Event] = []
        self._room = asyncio.Event()

    def look(self) -> None:
        """Find what was left by an earlier process. Blocks. Raises `StoreError`."""
        found = catalogue_of(self.store)
        for segment, size in sorted(found.segments.items()):
            self._note_if_good(segment, size)
        for snapshot, size in sorted(found.snapshots.items()):
            self._note_if_good(snapshot, size)

    @property
    def waiting(self) -> list[ObjectName]:
        """The objects that some store still lacks, in the order in which they came."""
        return list(self._waiting)

    def size_of(self, name: ObjectName) -> int:
        """How large an object is that waits, in bytes."""
        return self._waiting[name]

    def waiting_for(self, done: set[ObjectName]) -> list[ObjectName]:
        """The objects that a store lacks which has `done`."""
        return [name for name in self._waiting if name not in done]

    def subscribe(self) -> asyncio.Event:
        """Return an event that is set when something comes."""
        event = asyncio.Event()
        event.set()
        self._news.append(event)
        return event

    async def put(self, name: ObjectName, data: bytes) -> None:
        """Take an object in, durably. Raises `StoreError`."""
        await asyncio.to_thread(self.store.put, str(name), data)
        self._note(name, len(data))
        for event in self._news:
            event.set()

    async def wait_room(self, bytes_max: int) -> None:
        """Wait until less than `bytes_max` waits here."""
        is_told = False
        while self.bytes >= bytes_max:
            if not is_told:
                _log.warning("spool.full", bytes=self.bytes)
                is_told = True
            self._room.clear()
            await self._room.wait()

    async def carried(self, name: ObjectName) -> None:
        """Note that one more store has an object; the last one lets it go."""
        self._lacking[name] -= 1
        if self._lacking[name] == 0:
            del self._lacking[name]
            self.bytes -= self._waiting.pop(name)
            self._room.set()
            await asyncio.to_thread(self.store.delete, [str(name)])

    def _note_if_good(self, name: ObjectName, size: int) -> None:
        """Take what was left, unless it is not what was written: then it is as if it had never been sealed."""
        try:
            check_object(self.store, name)
        except ObjectDamagedError as error:
            _log.error("spool.damaged", name=error.name, reason=error.reason)
            self.store.delete([str(name)])
        else:
            self._note(name, size)

    def _note(self, name: ObjectName, size: int) -> None:
        if name not in self._waiting:
            self._waiting[name] = size
            self._lacking[name] = self._stores
            self.bytes += size


class Carrier:
    """Carries what is in the spool to one store, in order, for as long as it takes."""

    def __init__(self, spool: Spool, store: Store, found: Catalogue | None) -> None:
        self.store = store
        self.problem: str | None = None
        """Why the store has not got everything, None if nothing is in the way."""
        self._spool = spool
        self._found = found
        self.done: set[ObjectName] = set()
        """Of what is in the spool, what this store has."""
        self._news = spool.subscribe()

    async def run(self) -> None:
        """Carry, until cancelled."""
        pause_s = _PAUSE_S_MIN
        while True:
            self._news.clear()
            try:
                await self._carry_all()
            except ArchiveError as error:
                if self.problem is None:
                    _log.warning("archive.unreachable", store=self.store.name, reason=str(error))
                self.problem = str(error)
                self._found = None  # what it had may be gone when it is back
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
                continue
            if self.problem is not None:
                _log.info("archive.reached_again", store=self.store.name)
            self.problem, pause_s = None, _PAUSE_S_MIN
            await self._news.wait()

    async def _carry_all(self) -> None:
        for name in self._spool.waiting:
            if name in self.done:
                continue
            if self._found is None:
                self._found = await asyncio.to_thread(catalogue_of, self.store)
            if not _has(self._found, name, self._spool.size_of(name)):
                await self._carry(name)
            self.done.add(name)
            await self._spool.carried(name)
        self.done.intersection_update(self._spool.waiting)

    async def _carry(self, name: ObjectName) -> None:
        assert self._found is not None
        try:
            data = await asyncio.to_thread(self._spool.store.get, str(name))
        except ObjectDamagedError as error:
            # Somebody else deleted it. Scrubbing will find what is missing.
            _log.error("spool.lost", name=str(name), reason=error.reason)
            return
        await asyncio.to_thread(self.store.put, str(name), data)
        if isinstance(name, SegmentName):
            self._found.segments[name] = len(data)
        else:
            self._found.snapshots[name] = len(data)


def _has(found: Catalogue, name: ObjectName, size: int) -> bool:
    """Whether a store has an object, or longer segments in its place."""
    if isinstance(name, SnapshotName):
        return found.snapshots.get(name) == size
    if name in found.segments:
        return found.segments[name] == size
    return path_through(found.segments_of(name.epoch), name.first)[1] >= name.last
