"""The edge: the load balancer of a region, which is HAProxy, configured by us and steered while it runs.

    settings   what an edge is told
    config     settings -> haproxy.cfg, pure
    process    the commands to start, reload and check one; who supervises it is not our matter
    runtime    the runtime API: who serves, who drains, with which weight, and what was seen

docs/edge.md tells what is repeated, what waits how long, and how to look at it.
"""

from fivenines.traffic.edge.config import config
from fivenines.traffic.edge.process import ConfigRefusedError, check, command, find_haproxy
from fivenines.traffic.edge.runtime import EdgeServer, EdgeTotals, EdgeUnreachableError, RefusedError, Runtime
from fivenines.traffic.edge.settings import EdgeSettings, RateLimit, Server, Service, TcpProxy, Timeouts

__all__ = [
    "ConfigRefusedError",
    "EdgeServer",
    "EdgeSettings",
    "EdgeTotals",
    "EdgeUnreachableError",
    "RateLimit",
    "RefusedError",
    "Runtime",
    "Server",
    "Service",
    "TcpProxy",
    "Timeouts",
    "check",
    "command",
    "config",
    "find_haproxy",
]
