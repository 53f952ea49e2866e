"""Pools: the servers of a region that share their requests, so one can be compared with the others. Pure."""

from fivenines.control.desired import Desired
from fivenines.control.observed import ServerSeen

__all__ = ["pool_of"]


def pool_of(server: ServerSeen, desired: Desired) -> str:
    """Return the name of a server's pool: as its edge says, or else its role."""
    if server.pool:
        return server.pool
    return next((f"{w.role}s" for w in desired.workloads if w.name == server.name), "servers")
