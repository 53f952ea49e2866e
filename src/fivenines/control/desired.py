"""What should be: what `platform.yaml` declares, and what operators ordered. No I/O; who runs the loop fills it in."""

from typing import Literal

from msgspec import Struct

__all__ = ["Desired", "DesiredRegion", "DesiredWorkload", "Mode", "Order", "Role", "Timings"]

Mode = Literal["active", "standby"]
Role = Literal["journal", "node", "edge", "nameserver", "controller", "historian", "service"]


class DesiredRegion(Struct, frozen=True, kw_only=True):
    """One region."""

    name: str
    provider: str = ""
    mode: Mode = "active"
    weight: float = 1.0
    capacity_per_s: float | None = None
    """Requests a second that its nodes can take; None: not declared, and then all regions count alike."""
    rank: int = 0
    """Its place in the order of declaration: standbys are promoted in it."""

    @property
    def has_nodes(self) -> bool:
        """Whether anything there could serve: a region that only holds a member of the journal is declared with 0."""
        return self.capacity_per_s != 0.0


class DesiredWorkload(Struct, frozen=True, kw_only=True):
    """One process that should run."""

    name: str
    """Unique in the platform, such as eu-west-1 or eu-west-edge."""
    region: str
    role: Role


class Order(Struct, frozen=True, kw_only=True):
    """What an operator wants, until it is taken back."""

    kind: Literal["evacuate", "promote", "drain"]
    target: str
    """The region, or with `drain` the node."""
    at: float
    """Unix time."""
    by: str
    """Who."""
    why: str = ""
    override: bool = False
    """Whether it was given although a safety rule spoke against it."""


class Timings(Struct, frozen=True, kw_only=True):
    """How patient the controllers are; seconds where a name ends in _s."""

    look_s: float = 0.5
    """Between two rounds of a loop."""
    probe_s: float = 1.0
    """Between two probes of a region while they are answered at once; when one is not within a quarter of it, the next
    begins."""
    probe_timeout_s: float = 1.0
    losses_to_down: int = 2
    """An observer sees a region down after so many failed probes in a row: one lost probe moves nothing."""
    wins_to_up: int = 4
    """... and seen up again after so many in a row that were answered."""
    silent_s: float = 2.5
    """A report that is older does not count: its region has no voice."""
    down_s_min: float = 5.0
    """A region that went down stays down for so long, doubled each time it goes down again within `flap_s`."""
    flap_s: float = 120.0
    """A region that has served for so long is no longer thought to flap."""
    down_s_max: float = 120.0
    """However often it went down."""
    step_s: float = 3.0
    """How long a region that is coming back stays on each step: reads, then a few, then all."""
    dead_workload_s: float = 20.0
    """A workload whose agent could not bring it back for so long is replaced."""
    lost_member_s: float = 60.0
    """A journal member that has been away for so long is replaced."""
    demote_s: float = 30.0
    """A promoted standby steps back when all active regions have served for so long."""
    replace_again_s: float = 120.0
    """A workload that was begun anew gets so long before that is done again."""
    alone_s_max: float = 3.0
    """With no answer from the shared store for so long, the journal's majority is taken for lost."""
    skew_ms_max: float = 500.0
    """Clocks further apart than this are an incident."""
    window_s: float = 5.0
    """What is recent, when servers of a pool are compared."""
    ejected_s: float = 10.0
    """A server that was taken out as an outlier stays out for so long, doubled each time in a row."""
    outlier_times: float = 4.0
    """A server is slow when its answers take so many times as long as those of its peers (their median) ..."""
    outlier_ms_min: float = 200.0
    """... and longer by this, so that nobody is judged by a few milliseconds."""
    outlier_errors: float = 0.1
    """A server fails when so large a share of its requests does, and four times as large a one as of its peers."""
    outlier_requests_min: int = 10
    """With fewer in the window nobody is judged."""
    outlier_warm_s: float = 15.0
    """A server is not found slow before it has been up for so long: the first answers of a new process are."""


class Desired(Struct, frozen=True, kw_only=True):
    """Everything that should be."""

    platform: str
    regions: tuple[DesiredRegion, ...]
    workloads: tuple[DesiredWorkload, ...] = ()
    orders: tuple[Order, ...] = ()
    slo: float = 0.99999
    """The share of requests, and of time, that must be good."""
    peak_per_s: float = 0.0
    """Requests a second that must be carried with the largest region lost."""
    downtime_cost_per_s: float = 0.0
    """What a second of downtime costs, in `currency`."""
    currency: str = "EUR"
    timings: Timings = Timings()
