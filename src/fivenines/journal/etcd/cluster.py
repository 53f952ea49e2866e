"""The cluster: which members the journal's etcd has, taking a lost one out and letting a new one in.

etcd recommends to remove the lost member first and to add the new one after: a member that was added and has not
started counts for the majority, so adding first makes the majority larger just when one is missing. What may be done
when is for `fivenines.control` to decide; here it is only done. Each step is harmless when it is repeated.
"""

import asyncio
from collections.abc import Sequence

from msgspec import Struct

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.client import EtcdClient, RefusedError
from fivenines.journal.port import JournalError

__all__ = ["ListedMember", "add_member", "list_members", "remove_member"]

_CLUSTER = "/etcdserverpb.Cluster/"
_STATUS_S_MAX = 0.5


class ListedMember(Struct, frozen=True, kw_only=True):
    """One member, as the cluster lists it, and whether it answers."""

    id: int
    name: str
    """Empty: it was let in, and has not started yet."""
    peer_urls: tuple[str, ...]
    is_reachable: bool
    """Whether one of the endpoints that the client knows answers as this member, and knows a leader."""
    is_leader: bool
    is_learner: bool


async def list_members(client: EtcdClient, timeout_s: float) -> tuple[ListedMember, ...]:
    """Return the members, by id. Raises what `EtcdClient.txn` raises."""
    status_s = min(timeout_s, _STATUS_S_MAX)
    (answer, _), statuses = await asyncio.gather(
        client.call(f"{_CLUSTER}MemberList", rpc.MemberListRequest(), rpc.MemberListResponse, timeout_s),
        asyncio.gather(*(_status(client, number, status_s) for number in range(len(client.endpoints)))),
    )
    well = {status.header.member_id: status for status in statuses if status is not None and status.leader}
    leaders = {status.leader for status in well.values()}
    return tuple(
        ListedMember(
            id=member.ID,
            name=member.name,
            peer_urls=tuple(member.peerURLs),
            is_reachable=member.ID in well,
            is_leader=member.ID in leaders and member.ID in well,
            is_learner=member.isLearner,
        )
        for member in sorted(answer.members, key=lambda member: member.ID)
    )


async def _status(client: EtcdClient, number: int, timeout_s: float) -> rpc.StatusResponse | None:
    try:
        return await client.status(number, timeout_s)
    except RefusedError:
        return None


async def remove_member(client: EtcdClient, id: int, timeout_s: float) -> None:
    """Take a member out of the cluster; it ends by itself when it hears of it. Raises what `EtcdClient.txn` raises."""
    try:
        await client.call(
            f"{_CLUSTER}MemberRemove", rpc.MemberRemoveRequest(ID=id), rpc.MemberRemoveResponse, timeout_s
        )
    except RefusedError as error:
        if "member not found" not in error.reason and "permanently removed" not in error.reason:
            raise


async def add_member(client: EtcdClient, peer_urls: Sequence[str], timeout_s: float) -> None:
    """Let a new member into the cluster. It is to be started empty, with `--initial-cluster-state existing`.

    Raises what `EtcdClient.txn` raises: `RefusedError` while not enough of the other members are well.
    """
    request = rpc.MemberAddRequest(peerURLs=list(peer_urls))
    try:
        await client.call(f"{_CLUSTER}MemberAdd", request, rpc.MemberAddResponse, timeout_s)
    except (RefusedError, JournalError):
        # The answer of an attempt that came through may have been lost, and a later one is then refused: as known
        # already, or as the member that just came in is not well. What counts is what the cluster lists.
        listed, _ = await client.call(
            f"{_CLUSTER}MemberList", rpc.MemberListRequest(), rpc.MemberListResponse, timeout_s
        )
        if not any(set(peer_urls) & set(member.peerURLs) for member in listed.members):
            raise
