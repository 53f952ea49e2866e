"""What etcd holds: a pure state machine over requests, with all revisions that there ever were.

It answers transactions and compactions as a member does, to the word of its errors where our code looks at it;
`tests/simulation/test_simulated_etcd.py` holds it against a real one. It keeps everything for ever, so one store serves
members that are at different revisions: each reads it through a `View`, which is as far as that member has come, and a
judge can read the history that a compaction makes members forget.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from fivenines.journal.etcd import rpc_pb2 as rpc

__all__ = ["COMPACTED", "FUTURE", "Change", "Store", "StoreError", "View", "is_reading"]

COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"


class StoreError(Exception):
    """etcd refuses a request, in its own words."""


class View(NamedTuple):
    """How far a member has come: the newest revision that it has, and the one up to which it has forgotten."""

    revision: int
    compacted: int


class Change(NamedTuple):
    """What a revision did to a key. A version of 0: it was deleted."""

    key: bytes
    value: bytes
    create_revision: int
    mod_revision: int
    version: int

    @property
    def event(self) -> rpc.Event:
        """As a watch tells of it."""
        if self.version == 0:
            gone = rpc.KeyValue(key=self.key, mod_revision=self.mod_revision)
            return rpc.Event(type=rpc.Event.DELETE, kv=gone)
        return rpc.Event(kv=self.kv)

    @property
    def kv(self) -> rpc.KeyValue:
        """As a range tells of it."""
        key, value, create_revision, mod_revision, version = self
        return rpc.KeyValue(
            key=key, value=value, create_revision=create_revision, mod_revision=mod_revision, version=version
        )


@dataclass(slots=True)
class Store:
    """All that was ever carried out."""

    view: View = field(default=View(revision=1, compacted=-1))
    """That of whoever has carried out everything."""
    _keys: list[bytes] = field(default_factory=list)
    """All that there ever were, in order."""
    _changes: dict[bytes, list[Change]] = field(default_factory=dict)
    _by_revision: list[list[Change]] = field(default_factory=lambda: [[], []])

    def carry_out(self, request: rpc.TxnRequest | rpc.CompactionRequest) -> rpc.TxnResponse | rpc.CompactionResponse:
        """Carry out a request that was agreed on. Raises `StoreError`, having changed nothing."""
        if isinstance(request, rpc.CompactionRequest):
            return self._compact(request.revision)
        return self._txn(request, self.view)

    def read(self, request: rpc.TxnRequest, view: View) -> rpc.TxnResponse:
        """Answer a transaction that only reads, as a member that has come as far as `view`. Raises `StoreError`."""
        return self._txn(request, view)

    def changes(self, revision: int) -> list[Change]:
        """Return what a revision did, in order."""
        return self._by_revision[revision]

    def watched(self, view: View, key: bytes, end: bytes, start: int) -> Iterator[Change]:
        """Iterate over what a watch tells that a member begins at `view`, from the revision `start` on.

        What was deleted at the revision of a compaction is forgotten with it, though a watch from there on is taken.
        Raises `StoreError` when `start` is forgotten.
        """
        if start < view.compacted:
            raise StoreError(COMPACTED)
        for revision in range(start, view.revision + 1):
            for change in self._by_revision[revision]:
                is_forgotten = revision == view.compacted and change.version == 0
                if not is_forgotten and covers(key, end, change.key):
                    yield change

    def _compact(self, revision: int) -> rpc.CompactionResponse:
        newest, compacted = self.view
        if revision <= compacted:
            raise StoreError(COMPACTED)
        if revision > newest:
            raise StoreError(FUTURE)
        self.view = View(newest, revision)
        return rpc.CompactionResponse(header=rpc.ResponseHeader(revision=newest))

    def _txn(self, request: rpc.TxnRequest, view: View) -> rpc.TxnResponse:
        succeeded = all(self._holds(compare, view.revision) for compare in request.compare)
        operations = request.success if succeeded else request.failure
        for operation in operations:
            at = operation.request_range.revision if operation.HasField("request_range") else 0
            if at > view.revision:
                raise StoreError(FUTURE)
            if 0 < at < view.compacted:
                raise StoreError(COMPACTED)
        answer = rpc.TxnResponse(succeeded=succeeded)
        new: list[Change] = []
        # What a transaction has written is seen by what comes after it in there.
        revision = view.revision + 1
        for operation in operations:
            match operation.WhichOneof("request"):
                case "request_range":
                    found = answer.responses.add().response_range
                    self._range(operation.request_range, revision if new else view.revision, found)
                    found.header.revision = revision if new else view.revision
                case "request_put":
                    put = operation.request_put
                    self._write(put.key, put.value, revision, new)
                    answer.responses.add().response_put.header.revision = revision
                case "request_delete_range":
                    gone = operation.request_delete_range
                    keys = [change.key for change in self._alive(gone.key, gone.range_end, revision)]
                    for key in keys:
                        self._write(key, None, revision, new)
                    response = answer.responses.add().response_delete_range
                    response.deleted = len(keys)
                    response.header.revision = revision if new else view.revision
        if new:
            assert view == self.view, "only what is agreed on writes"
            self.view = View(revision, view.compacted)
            self._by_revision.append(new)
        answer.header.revision = revision if new else view.revision
        return answer

    def _holds(self, compare: rpc.Compare, revision: int) -> bool:
        change = self._at(compare.key, revision)
        is_there = change is not None and change.version > 0
        is_number = compare.target != rpc.Compare.VALUE
        if not is_there and not is_number:
            return False
        found: int | bytes
        wanted: int | bytes
        match compare.target:
            case rpc.Compare.VALUE:
                found, wanted = change.value if change else b"", compare.value
            case rpc.Compare.CREATE:
                found, wanted = change.create_revision if change and is_there else 0, compare.create_revision
            case rpc.Compare.MOD:
                found, wanted = change.mod_revision if change and is_there else 0, compare.mod_revision
            case _:
                found, wanted = change.version if change else 0, compare.version
        match compare.result:
            case rpc.Compare.EQUAL:
                return found == wanted
            case rpc.Compare.NOT_EQUAL:
                return found != wanted
            case rpc.Compare.GREATER:
                return found > wanted  # type: ignore[operator]
            case _:
                return found < wanted  # type: ignore[operator]

    def _range(self, request: rpc.RangeRequest, revision: int, answer: rpc.RangeResponse) -> None:
        found = self._alive(request.key, request.range_end, request.revision or revision)
        limit = request.limit or len(found)
        answer.kvs.extend(change.kv for change in found[:limit])
        if request.keys_only:
            for kv in answer.kvs:
                kv.ClearField("value")
        answer.count = len(found)
        answer.more = len(found) > limit

    def _alive(self, key: bytes, end: bytes, revision: int) -> list[Change]:
        if not end:
            keys = [key]
        else:
            first = bisect_left(self._keys, key)
            keys = self._keys[first:] if end == b"\0" else self._keys[first : bisect_left(self._keys, end)]
        found = (self._at(key, revision) for key in keys)
        return [change for change in found if change is not None and change.version > 0]

    def _at(self, key: bytes, revision: int) -> Change | None:
        """Return what was the newest change of a key at a revision."""
        changes = self._changes.get(key)
        if not changes:
            return None
        if changes[-1].mod_revision <= revision:
            return changes[-1]
        number = bisect_right(changes, revision, key=lambda change: change.mod_revision)
        return changes[number - 1] if number else None

    def _write(self, key: bytes, value: bytes | None, revision: int, new: list[Change]) -> None:
        changes = self._changes.get(key)
        if changes is None:
            insort(self._keys, key)
            changes = self._changes[key] = []
        before = changes[-1] if changes else None
        if value is None:
            change = Change(key, b"", 0, revision, 0)
        elif before is None or before.version == 0:
            change = Change(key, value, revision, revision, 1)
        else:
            change = Change(key, value, before.create_revision, revision, before.version + 1)
        changes.append(change)
        new.append(change)


def covers(key: bytes, end: bytes, found: bytes) -> bool:
    """Return whether a key is in a range, as etcd writes ranges."""
    if not end:
        return found == key
    return found >= key and (end == b"\0" or found < end)


def is_reading(request: rpc.TxnRequest) -> bool:
    """Whether a transaction writes nothing, whichever way it goes."""
    return all(operation.HasField("request_range") for way in (request.success, request.failure) for operation in way)
