"""Leases: keys that go away by themselves when whoever wrote them dies.

A lease lives as long as it is renewed within its time to live. etcd counts that on its leader's clock, and gives every
lease its full time again when a new leader is elected: so a key may stay for longer than said, and never for less. To
hold a lease proves nothing by the time that a write arrives; what must not be done twice compares what it writes over.
"""

from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.client import EtcdClient, RefusedError

__all__ = ["grant_lease", "is_lease_gone", "renew_lease", "revoke_lease"]

_LEASE = "/etcdserverpb.Lease/"
_GONE = "lease not found"


async def grant_lease(client: EtcdClient, ttl_s: int, timeout_s: float) -> int:
    """Return the id of a new lease. One that was granted twice, as an answer was lost, goes away by itself.

    Raises what `EtcdClient.txn` raises.
    """
    request = rpc.LeaseGrantRequest(TTL=ttl_s)
    answer, _ = await client.call(f"{_LEASE}LeaseGrant", request, rpc.LeaseGrantResponse, timeout_s)
    if answer.error:
        raise RefusedError(client.endpoints[client.current], answer.error)
    return answer.ID


async def renew_lease(client: EtcdClient, lease: int, timeout_s: float) -> bool:
    """Give a lease its full time again; whether it was still there. Raises what `EtcdClient.txn` raises."""
    request = rpc.LeaseKeepAliveRequest(ID=lease)
    answer = await client.first(f"{_LEASE}LeaseKeepAlive", request, rpc.LeaseKeepAliveResponse, timeout_s)
    return answer.TTL > 0


async def revoke_lease(client: EtcdClient, lease: int, timeout_s: float) -> None:
    """End a lease, and delete its keys. Harmless when it is gone. Raises what `EtcdClient.txn` raises."""
    try:
        await client.call(f"{_LEASE}LeaseRevoke", rpc.LeaseRevokeRequest(ID=lease), rpc.LeaseRevokeResponse, timeout_s)
    except RefusedError as error:
        if not is_lease_gone(error):
            raise


def is_lease_gone(error: RefusedError) -> bool:
    """Whether etcd refused something because its lease is no longer there."""
    return _GONE in error.reason
