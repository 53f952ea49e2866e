"""What is: what each region's controller saw itself and reported, and what all have agreed on. No I/O.

A controller publishes one `Report` each round; `Observed` holds the newest of every region, with its age, so a decision
can tell a region that is down from one that says nothing.
"""

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct

from fivenines.control.desired import Role

__all__ = ["MemberSeen", "Observed", "Phase", "Probes", "RegionState", "Report", "ServerSeen", "WorkloadSeen"]

Phase = Literal["serving", "reads", "few", "down", "evacuated", "standby"]
"""serving     gets its full share
reads       coming back: gets a small share, and sends writes on to another region
few         coming back: gets a small share of everything
down        judged to be down: gets nothing
evacuated   an operator took it out: gets nothing
standby     warm, gets nothing until it is promoted
"""


class Probes(Struct, frozen=True, kw_only=True):
    """What one region's controller sees of another region, or of its own: real writes through its edge."""

    recent: tuple[bool, ...] = ()
    """Whether the last probes were answered, the newest last; 16 at most."""
    latency_ms: float | None = None
    """The median of the recent ones that were answered."""
    reason: str = ""
    """What was wrong with the last one that was not."""
    failing_s: float = 0.0
    """How long ago the first of those began that have failed in a row up to now; 0 if the last one was answered."""


class WorkloadSeen(Struct, frozen=True, kw_only=True):
    """One process, as its region's agent knows it."""

    name: str
    role: Role
    state: Literal["waiting", "starting", "ready", "unready", "draining", "stopping", "stopped", "backoff"]
    since: float
    """Unix time at which it came into this state."""
    pid: int | None = None
    restarts: int = 0
    reason: str = ""
    """Why it is not ready; empty if it is."""
    address: str = ""
    """host:port, where it has one."""
    weight: int = 100
    """Of a node or service: percent of its usual share at its edge; 0 when it is ejected."""
    is_drained: bool = False
    """Of a node or service: whether an order has it out of its edge."""
    unready_s: float = 0.0
    """For how long it has not been ready, whatever states it went through. Kept by its region's controller, whose own
    clock cannot step; its agent leaves it out."""
    failed_starts: int = 0
    """How often its agent started it in vain since it was last ready. Kept likewise."""
    replaced_s: float | None = None
    """How long ago its controller began it anew, empty, or tried to; None if it did not. Kept likewise."""
    position: int | None = None
    """Of a node that answers, ready or not: up to where it has applied the journal. Its agent leaves it out."""
    stalled_s: float | None = None
    """For how long its position has been what it told last; None: it told none. Kept by its region's controller."""


class ServerSeen(Struct, frozen=True, kw_only=True):
    """One node or service, as its edge sees it."""

    name: str
    is_up: bool
    weight: int
    """Percent of the usual."""
    is_drained: bool = False
    """Gets nothing new, by an order; it may be up, and weigh as ever."""
    requests: int
    """Since the edge started."""
    errors: int
    """Connections and answers that failed, since the edge started."""
    latency_ms: float
    """The mean time to an answer of the last 1,024 requests."""
    in_flight: int
    pool: str = ""
    """Who shares its requests: the servers with the same one. Empty: all of the same role."""
    requests_recent: int = 0
    """In the last seconds, a window of `window_s`. Kept by its region's controller; the edge leaves it out."""
    errors_recent: int = 0
    """Kept likewise."""
    latency_recent_ms: float | None = None
    """The mean of the window, as far as it can be told; None: too few requests. Kept likewise."""
    up_s: float | None = None
    """For how long it has been up, as far as that was watched; None: for long. Kept likewise."""
    weight_s: float = 0.0
    """For how long its weight has been what it is. Kept likewise."""
    ejections: int = 0
    """How often in a row it was taken out again soon after it was put back. Kept likewise."""


class MemberSeen(Struct, frozen=True, kw_only=True):
    """One member of the journal's etcd, as the cluster lists it."""

    id: int
    """Given by etcd."""
    name: str
    region: str
    is_reachable: bool
    is_leader: bool = False
    is_learner: bool = False
    away_s: float = 0.0
    """For how long it has not been reachable."""


class Outage(Struct, frozen=True, kw_only=True):
    """For how long the shared store did not answer a controller, and what was lost then as that one sees it."""

    since: float
    """Unix time."""
    length_s: float
    lost_s: float
    """Seconds of the error budget."""


class Report(Struct, frozen=True, kw_only=True):
    """What one region's controller saw in one round."""

    region: str
    at: float
    """Unix time on its own clock."""
    age_s: float = 0.0
    """How long ago whoever holds this received it, on the clock of whoever holds it. Not sent."""
    heard_s: float | None = None
    """For how long whoever holds this has heard its region without a gap; None: not watched. Not sent."""
    probes: Mapping[str, Probes] = {}
    """By region; its own among them."""
    workloads: tuple[WorkloadSeen, ...] = ()
    servers: tuple[ServerSeen, ...] = ()
    position: int = 0
    """The highest that any of its nodes has applied."""
    requests_per_s: float = 0.0
    """At its edge."""
    failed_per_s: float = 0.0
    """5xx at its edge."""
    p99_ms: float | None = None
    """At its edge."""
    skew_ms: Mapping[str, float] = {}
    """How far other regions' clocks are ahead of its own, as far as it can tell."""
    is_leader: bool = False
    sequence: int = 0
    """Another one with each report: a report whose sequence stays what it was tells nothing new."""
    unbooked_s: float = 0.0
    """Seconds of the error budget that were lost and are not in the books ..."""
    books_revision: int = 0
    """... of this revision."""
    in_touch_since: float = 0.0
    """Since when the shared store has answered its controller, with no outage: unix time; 0: it has not yet."""
    outage: Outage | None = None
    """When it last did not answer for long, if that may not be in the books yet."""
    incidents: tuple[str, ...] = ()
    """What its controller wants people to know of, as `kind:target`."""


class RegionState(Struct, frozen=True, kw_only=True):
    """What all controllers have agreed on about one region."""

    name: str
    phase: Phase
    since: float
    """Unix time of the last change of phase."""
    share: float = 1.0
    """0 to 1, of its usual traffic."""
    reason: str = ""
    downs: tuple[float, ...] = ()
    """When it went down within `flap_s` before the last change, unix times."""
    promoted: bool = False
    """Whether a standby serves as an active one."""
    revision: int = 0
    """Of the record that all share: an action that changes it names the one that it has seen."""
    age_s: float = 0.0
    """For how long whoever holds this has known it as it is, on its own clock, which cannot step. Not sent. A
    controller that was started anew knows it from then on: so it is more patient, never less."""


class Observed(Struct, frozen=True, kw_only=True):
    """Everything that a controller knows."""

    here: str
    """Its own region."""
    reports: Mapping[str, Report] = {}
    """The newest of each region that has ever reported."""
    states: Mapping[str, RegionState] = {}
    """Of each region."""
    members: tuple[MemberSeen, ...] = ()
    is_leader: bool = False
    """Whether this controller holds the lease for what is global."""
    has_majority: bool = True
    """Whether the shared store answered in this round: without it nothing that is shared may be changed."""
    alone_s: float = 0.0
    """For how long the shared store has not answered."""
    under_way: frozenset[str] = frozenset()
    """The targets of this region's actions that are being carried out."""
