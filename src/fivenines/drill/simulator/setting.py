"""What is simulated: a declared platform, how many nodes it has, what goes wrong with it, and what drills measured.

A `Setting` holds counts, never one object for each node: a region of five thousand nodes is as cheap as one of two.
What-ifs are other settings; `whatif` makes them. All of it is pure.
"""

from msgspec import Struct
from msgspec.structs import replace

from fivenines.control.desired import Desired, DesiredWorkload
from fivenines.drill.simulator.calibration import Calibration
from fivenines.drill.simulator.rates import Rates
from fivenines.platform.desires import to_desired
from fivenines.platform.latency import election, journal_times
from fivenines.platform.sharing import providers
from fivenines.platform.spec import Platform, Region

__all__ = ["REGIONS_MAX", "Setting", "SettingError"]

REGIONS_MAX = 20
NODES_MAX = 100_000
_MEASURED_ELECTION_MS = 200
"""What the journal of the platform had on which drills measured its elections."""


class SettingError(ValueError):
    """This cannot be simulated; the message says why."""


class Setting(Struct, frozen=True, kw_only=True):
    """Everything that decides what years of operation are like, but for chance."""

    platform: Platform
    rates: Rates
    calibration: Calibration
    nodes_per_region: int | None = None
    """In the place of what each region with nodes declares."""
    has_canary: bool = False
    """Whether a release goes to one node first, and on only when that was looked at."""
    notice_times: float = 1.0
    """How long people take to notice, in times of what the table says."""
    is_pausing: bool = True
    """Whether what drills measured is counted, elections and pauses of clients; off to compare with closed forms."""

    def __post_init__(self) -> None:
        if len(self.platform.regions) > REGIONS_MAX:
            raise SettingError(
                f"regions: there are {len(self.platform.regions)}, and at most {REGIONS_MAX} are simulated"
            )
        if not self.serving:
            raise SettingError("regions: none has nodes")
        if self.node_count > NODES_MAX:
            raise SettingError(f"nodes: there are {self.node_count:,}, and at most {NODES_MAX:,} are simulated")

    @property
    def serving(self) -> tuple[Region, ...]:
        """The regions that have nodes."""
        return self.platform.serving_regions

    @property
    def node_count(self) -> int:
        """How many nodes there are."""
        return sum(self.nodes(region) for region in self.serving)

    @property
    def members(self) -> tuple[str, ...]:
        """The regions that hold a member of the journal."""
        return self.platform.member_regions

    @property
    def providers(self) -> tuple[str, ...]:
        """The providers, each once."""
        return providers(self.platform)

    def nodes(self, region: Region) -> int:
        """Return how many nodes a region has."""
        return region.nodes if self.nodes_per_region is None or not region.nodes else self.nodes_per_region

    def capacity_per_s(self, region: Region) -> float | None:
        """Return the requests a second that a region can take; None: not declared."""
        per_node = region.capacity_per_node_per_s or self.platform.capacity_per_node_per_s
        return None if per_node is None else per_node * self.nodes(region)

    def desired(self) -> Desired:
        """Return what the controllers are told."""
        sized = tuple(replace(region, nodes=self.nodes(region)) for region in self.platform.regions)
        workloads = tuple(
            DesiredWorkload(name=f"{region}-journal", region=region, role="journal") for region in self.members
        )
        return to_desired(replace(self.platform, regions=sized), workloads=workloads)

    def election_times(self) -> float:
        """Return how much longer an election takes than on the platform that drills measured."""
        found = election(self.platform)
        if found is None:
            return journal_times(self.platform).election_ms / _MEASURED_ELECTION_MS
        here_s = _MEASURED_ELECTION_MS / 1_000
        return found.mean_s / (here_s * (1 + 1 / 3) + 2 * 0.0002)
