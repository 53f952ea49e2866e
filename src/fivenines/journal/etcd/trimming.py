"""Trimming: letting go of the oldest frames without moving a position, and telling etcd to forget them.

The base moves first, in one transaction: from then on the journal begins after it, for everybody. Deleting the pieces,
lanes and marks that lie before comes after, and if it stops half way the next trimming completes it, since it deletes
all that is before the base, from the first number on. A base is always a mark, so whoever reads from it knows position,
digest and lanes. Any node may trim, several at once: the base only moves forward, by comparison.
"""

from collections.abc import Iterator, Sequence

import structlog

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.client import EtcdClient
from fivenines.journal.etcd.lanes import epoch_is
from fivenines.journal.etcd.layout import Keys, Place, end_of, pack_place
from fivenines.journal.etcd.reading import look_request, parse_look

__all__ = ["trim"]

log = structlog.get_logger(__name__)

_OPS_MAX = 100
"""Operations in a transaction: etcd takes 128 by default."""


async def trim(client: EtcdClient, keys: Keys, epoch: int, marks: Sequence[Place], timeout_s: float) -> Place:
    """Let go of what is before the last of `marks`, which are in order, and return the base that there is then.

    Raises what `EtcdClient.txn` raises.
    """
    target = marks[-1]
    seen = parse_look(keys, (await client.txn(look_request(keys), timeout_s)).txn)
    if seen.epoch != epoch or seen.base.position > target.position:
        return seen.base
    # What these wrote last is before the target, whole frames and others.
    idle = {lane: found.revision for lane, found in seen.lanes.items() if found.revision < target.revision}
    base = Place(
        position=target.position,
        digest=target.digest,
        bytes=target.bytes,
        revision=target.revision,
        lanes={lane: number for lane, number in target.lanes.items() if lane in seen.lanes},
    )
    if seen.base != base:
        moved = await client.txn(
            rpc.TxnRequest(
                compare=[
                    epoch_is(keys, epoch),
                    rpc.Compare(target=rpc.Compare.MOD, key=keys.base, mod_revision=seen.base_revision),
                ],
                success=[rpc.RequestOp(request_put=rpc.PutRequest(key=keys.base, value=pack_place(base)))],
            ),
            timeout_s,
        )
        if not moved.txn.succeeded and not moved.is_repeated:
            return seen.base  # somebody else trims
    revision = 0
    for request in _deletions(keys, marks, idle):
        revision = (await client.txn(request, timeout_s)).txn.header.revision
    await client.compact(revision, timeout_s)
    log.info("journal.trimmed", first=base.position + 1, revision=revision)
    return base


def _deletions(keys: Keys, marks: Sequence[Place], idle: dict[str, int]) -> Iterator[rpc.TxnRequest]:
    """Yield the transactions that delete what is before the last of `marks`, each of a bounded number of keys."""
    deleted: dict[str, int] = {}
    for mark in marks:
        ranges = [
            (keys.piece(lane, 0), keys.piece(lane, number + 1))
            for lane, number in mark.lanes.items()
            if deleted.get(lane) != number
        ]
        deleted.update(mark.lanes)
        for begin in range(0, len(ranges), _OPS_MAX):
            yield rpc.TxnRequest(success=[_delete(key, end) for key, end in ranges[begin : begin + _OPS_MAX]])
    for lane, revision in idle.items():
        key, pieces = keys.lane(lane), keys.pieces(lane)
        yield rpc.TxnRequest(
            compare=[rpc.Compare(target=rpc.Compare.MOD, key=key, mod_revision=revision)],
            success=[_delete(pieces, end_of(pieces)), _delete(key, key + b"\0")],
        )
    yield rpc.TxnRequest(success=[_delete(keys.marks, keys.mark(marks[-1].position + 1))])


def _delete(key: bytes, end: bytes) -> rpc.RequestOp:
    return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key, range_end=end))
