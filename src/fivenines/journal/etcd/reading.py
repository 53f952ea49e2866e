"""Reading the keys: the frames from a place on, by ranges, for whoever is too far behind to be told by a watch.

A **look** is one transaction that reads, at one revision, where the journal begins and which lanes there are. The lanes
are then read in pages *at that revision*, and merged by the revision that created each piece: so what comes out is what
there was at that instant, in order, whatever is appended, trimmed or compacted meanwhile. If the revision is compacted
before the reading is done, the next look goes on where this one stopped.

Why pages by lane: etcd cannot read a page in the order of revisions without loading all there is, and a member would
take as much memory. The keys of a lane sort like its pieces, and its pieces were created in that order.
"""

import heapq
from collections.abc import Generator, Iterator
from typing import NamedTuple

from msgspec import Struct

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.chain import Chain
from fivenines.journal.etcd.client import BlockingClient, CompactedError
from fivenines.journal.etcd.errors import JournalMissingError
from fivenines.journal.etcd.layout import Keys, Place, parse_number, parse_piece, parse_place
from fivenines.journal.port import Frame, TrimmedError

__all__ = [
    "Found",
    "LaneFound",
    "Look",
    "look",
    "look_request",
    "parse_look",
    "read_marks",
    "read_notices",
    "read_to_the_end",
]

_PAGE_BYTES = 1024 * 1024
_PAGE_KEYS_FIRST = 4
_PAGE_KEYS_MAX = 1_024


class LaneFound(Struct, frozen=True):
    """A lane, as it was at a look."""

    newest: int
    """The number of its last piece."""
    revision: int
    """The revision at which that was written."""


class Found(NamedTuple):
    """A frame, and the piece that completed it."""

    lane: str
    number: int
    frame: Frame


class Look(Struct, frozen=True, kw_only=True):
    """What there was at one revision."""

    revision: int
    cluster_id: int
    epoch: int
    is_fenced: bool
    """Whether the journal goes on elsewhere: nobody shall open it here any more."""
    base: Place
    base_revision: int
    """The revision at which the base was written."""
    lanes: dict[str, LaneFound]


def look_request(keys: Keys) -> rpc.TxnRequest:
    """Return the transaction that `parse_look` understands the answer of."""
    return rpc.TxnRequest(
        success=[
            _range(keys.epoch),
            _range(keys.base),
            _range(keys.lanes, keys.lanes_end),
            _range(keys.fenced),
        ]
    )


def parse_look(keys: Keys, answer: rpc.TxnResponse) -> Look:
    """Return what a look found. Raises `JournalMissingError` or `LayoutError`."""
    epoch, base, lanes, fenced = (response.response_range.kvs for response in answer.responses)
    if not epoch or not base:
        raise JournalMissingError(keys.all.decode())
    return Look(
        revision=answer.header.revision,
        cluster_id=answer.header.cluster_id,
        epoch=parse_number(keys.epoch, epoch[0].value),
        is_fenced=bool(fenced),
        base=parse_place(keys.base, base[0].value),
        base_revision=base[0].mod_revision,
        lanes={keys.parse_lane(kv.key): LaneFound(parse_number(kv.key, kv.value), kv.mod_revision) for kv in lanes},
    )


def look(client: BlockingClient, keys: Keys) -> Look:
    """Look at the journal. Blocks. Raises `JournalMissingError`, `LayoutError`, `JournalUnreachableError`."""
    return parse_look(keys, client.txn(look_request(keys)))


def read_marks(client: BlockingClient, keys: Keys) -> list[Place]:
    """Return the marks there are, in order. Blocks. Raises `LayoutError`, `JournalUnreachableError`."""
    marks: list[Place] = []
    key = keys.marks
    while True:
        request = rpc.RangeRequest(key=key, range_end=keys.marks_end, limit=_PAGE_KEYS_MAX)
        page = client.txn(rpc.TxnRequest(success=[rpc.RequestOp(request_range=request)])).responses[0].response_range
        marks += [parse_place(kv.key, kv.value) for kv in page.kvs]
        if not page.more:
            return marks
        key = page.kvs[-1].key + b"\0"


def read_notices(client: BlockingClient, keys: Keys) -> dict[str, bytes]:
    """Return the notices of all nodes, by name. Blocks. Raises `JournalUnreachableError`."""
    page = client.txn(rpc.TxnRequest(success=[_range(keys.nodes, keys.nodes_end)])).responses[0].response_range
    return {keys.parse_node(kv.key): kv.value for kv in page.kvs}


def _read_frames(client: BlockingClient, keys: Keys, chain: Chain, seen: Look) -> Iterator[Found]:
    """Iterate over the frames after the chain's place that there were at a look. Blocks, and advances the chain.

    Raises:
        TrimmedError: the journal began later by then.
        CompactedError: the look is too old by now; the chain is where it is, so look again and go on.
        MissedError, LayoutError: what etcd holds is not what was written.
        JournalUnreachableError: as it says.
    """
    if seen.base.position > chain.position:
        raise TrimmedError(chain.position + 1, seen.base.position + 1)
    lanes = [
        _read_lane(client, keys, lane, chain.newest(lane), found.newest, seen.revision)
        for lane, found in sorted(seen.lanes.items())
        if found.newest > chain.newest(lane)
    ]
    for kv in heapq.merge(*lanes, key=lambda kv: (kv.create_revision, kv.key)):
        lane, number = keys.parse_piece(kv.key)
        frame = chain.take(kv.key, lane, number, parse_piece(kv.key, kv.value), kv.create_revision)
        if frame is not None:
            yield Found(lane, number, frame)


def read_to_the_end(client: BlockingClient, keys: Keys, chain: Chain, seen: Look) -> Generator[Found, None, Look]:
    """Iterate over the frames after the chain's place, and return the look whose frames were all read. Blocks.

    It begins with `seen`, and looks again when that is too old by now. Raises what `_read_frames` raises, but for
    `CompactedError`.
    """
    while True:
        try:
            yield from _read_frames(client, keys, chain, seen)
        except CompactedError:
            seen = look(client, keys)
        else:
            return seen


def _read_lane(
    client: BlockingClient, keys: Keys, lane: str, newest: int, last: int, revision: int
) -> Iterator[rpc.KeyValue]:
    """Iterate over the pieces of a lane after `newest`, to `last`, at a revision, in pages of bounded size.

    A page is a range of numbers, hardly any of which is missing, and not a range with a limit: etcd would look at all
    keys up to the end of the range to answer that.
    """
    begin, count = newest + 1, _PAGE_KEYS_FIRST
    while begin <= last:
        end = min(begin + count, last + 1)
        request = rpc.RangeRequest(key=keys.piece(lane, begin), range_end=keys.piece(lane, end), revision=revision)
        answer = client.txn(rpc.TxnRequest(success=[rpc.RequestOp(request_range=request)]))
        page = answer.responses[0].response_range.kvs
        yield from page
        begin = end
        # As many as make a page if they are as long as the ones before.
        page_bytes = sum(len(kv.value) for kv in page) or 1
        count = max(1, min(_PAGE_KEYS_MAX, count * 4, len(page) * _PAGE_BYTES // page_bytes))


def _range(key: bytes, end: bytes = b"") -> rpc.RequestOp:
    return rpc.RequestOp(request_range=rpc.RangeRequest(key=key, range_end=end))
