"""Outliers: a node that answers much slower, or fails much more, than its peers is taken out of its edge for a while.

A node that is down the edge sees by itself. One that limps it does not: it answers health checks and makes every tenth
request slow. Here each server of a pool is compared with the median of the others, over the last seconds. One that
stands out gets weight 0 for `ejected_s`, doubled each time in a row; then a small weight, as a probe; and from there
full weight if it does as well as its peers, or none again if it does not. Who has only just come up is not judged
by how long it takes: its first answers are slow, and to take it out would leave a pool of two with a single node.

At most half of a pool, rounded down, is out at once, so never the last one, and never so many that those that remain
could not carry what comes in. With these floors a bad comparison costs capacity, and not the service. (The scheme is
that of Envoy's outlier detection.)
"""

from collections.abc import Sequence

from fivenines.control.actions import Action, SetNodeWeight
from fivenines.control.desired import Desired, Timings
from fivenines.control.judging import middle, region_named
from fivenines.control.observed import Observed, ServerSeen
from fivenines.control.pools import pool_of

__all__ = ["PROBE_PERCENT", "decide"]

PROBE_PERCENT = 10
"""The weight of a server that is tried again."""
_DOUBLINGS_MAX = 5
_ERRORS_TIMES = 4.0
_TRIED_S = 5.0


def decide(desired: Desired, observed: Observed, now: float) -> list[Action]:  # noqa: ARG001 - all controllers are alike
    """Say which servers of this region change their weight."""
    report = observed.reports.get(observed.here)
    if report is None:
        return []
    drained = {seen.name for seen in report.workloads if seen.is_drained}
    pools: dict[str, list[ServerSeen]] = {}
    for server in report.servers:
        if server.name not in drained and server.name not in observed.under_way:
            pools.setdefault(pool_of(server, desired), []).append(server)
    actions: list[Action] = []
    for pool in pools.values():
        actions += _pool(pool, desired, observed, report.requests_per_s)
    return actions


def _pool(pool: Sequence[ServerSeen], desired: Desired, observed: Observed, requests_per_s: float) -> list[Action]:
    timings = desired.timings
    out = sum(server.weight == 0 or not server.is_up for server in pool)
    floor = len(pool) // 2
    tried_s = max(_TRIED_S, timings.window_s)
    actions: list[Action] = []
    for server in sorted(pool, key=lambda server: server.name):
        if not server.is_up:
            continue
        if server.weight == 0:
            rest_s = timings.ejected_s * 2.0 ** min(max(0, server.ejections - 1), _DOUBLINGS_MAX)
            if server.weight_s >= rest_s:
                why = f"it was out for {server.weight_s:.0f} s: a small share shows how it does now"
                actions.append(SetNodeWeight(reason=why, workload=server.name, percent=PROBE_PERCENT))
            continue
        peers = [other for other in pool if other is not server and other.is_up and other.weight > 0]
        why_not = _stands_out(server, peers, desired)
        if why_not is not None:
            if out < floor and peers and _carries(len(pool), out + 1, desired, observed, requests_per_s):
                actions.append(SetNodeWeight(reason=why_not, workload=server.name, percent=0))
                out += 1
        elif server.weight < 100 and server.weight_s >= tried_s and not _is_cold(server, timings):
            # Judged by its window, or by having been asked nothing: then a larger share is what tells.
            actions.append(SetNodeWeight(reason="it does as well as its peers", workload=server.name, percent=100))
    return actions


def _stands_out(server: ServerSeen, peers: Sequence[ServerSeen], desired: Desired) -> str | None:
    timings = desired.timings
    if server.requests_recent < timings.outlier_requests_min:
        return None
    judged = [peer for peer in peers if peer.requests_recent >= timings.outlier_requests_min]
    if not judged:
        return None
    failed = server.errors_recent / server.requests_recent
    usual = middle(peer.errors_recent / peer.requests_recent for peer in judged) or 0.0
    if failed >= timings.outlier_errors and failed >= _ERRORS_TIMES * usual:
        return f"{failed:.0%} of its requests fail, and {usual:.0%} of its peers'"
    if _is_cold(server, timings):
        return None
    # An edge's mean is of long ago for one that was out: such a one is judged by the window alone.
    slow = _latency(server) if server.weight >= 100 else server.latency_recent_ms or 0.0
    usual_ms = middle(_latency(peer) for peer in judged) or 0.0
    if slow >= timings.outlier_times * usual_ms and slow >= usual_ms + timings.outlier_ms_min:
        return f"its answers take {slow:.0f} ms, and its peers' {usual_ms:.0f} ms"
    return None


def _is_cold(server: ServerSeen, timings: Timings) -> bool:
    return server.up_s is not None and server.up_s < timings.outlier_warm_s


def _latency(server: ServerSeen) -> float:
    return server.latency_ms if server.latency_recent_ms is None else server.latency_recent_ms


def _carries(count: int, out: int, desired: Desired, observed: Observed, requests_per_s: float) -> bool:
    region = region_named(observed.here, desired)
    if region is None or region.capacity_per_s is None:
        return True
    return region.capacity_per_s * (count - out) / count >= requests_per_s
