"""What each loss would cost a declared platform, and what its distances cost every write: pure, reckoned, not measured.

For each loss: how far history would be behind (the recovery point), how long requests wait, for whom, and what that is
in seconds of the year's error budget and in money. The parts of a pause, each of which a row names:

    election     nobody leads the journal: see `latency`. Nodes hold writes meanwhile, so they are late, not failed
    next try     a client of ours finds no answer and asks the next region
    detection    the regions' probes see it down: so many failed probes, the last one's timeout, a round to decide
    TTL          resolvers forget the address; until then clients that are not ours go on asking for it
    restart      an agent begins a process again

A budget is spent by what a request of a client that is *not* ours sees, weighted by the share of requests that it
touches: that is what an outsider measures. Clients of ours see less, which stands beside it.
"""

from typing import Literal

from msgspec import Struct

from fivenines.platform.latency import election, journal_times, majority, members, write_latency
from fivenines.platform.sharing import providers, regions_of, serving, shares
from fivenines.platform.spec import Platform, Region
from fivenines.platform.verdict import Verdict, judge

__all__ = ["Budget", "Loss", "Plan", "Writes", "make_plan"]

YEAR_S = 365.25 * 86_400
NEXT_TRY_S = 0.1
"""A connection is refused or times out in the same city, and the next is tried at once, or after a first short wait."""
NEXT_REGION_S = 1.0
"""The same when a whole region says nothing: two lost packets are waited for before the next region is asked."""
RESTART_S = 1.0
"""An agent sees that a process has ended, and begins it again."""
RESTORE_S = 600.0
"""All regions are lost: machines are made, and a person decides. The restoring itself takes seconds: 287,000
transactions a second, after a snapshot of the last 2,000,000 commands (docs/benchmarks.md)."""


class Loss(Struct, frozen=True, kw_only=True):
    """What one loss costs."""

    kind: Literal[
        "node",
        "edge",
        "nameserver",
        "controller",
        "historian",
        "journal_follower",
        "journal_leader",
        "region",
        "provider",
        "everything",
    ]
    name: str
    """Which region or provider; empty for a part of any region."""
    recovery_point_s: float
    """So many seconds of acknowledged writes are lost at the most; 0: none."""
    pause_s: float | None
    """How long a request of our client waits, as expected. None: until what was lost is back."""
    pause_others_s: float | None
    """How long a client that is not ours gets no answer at the most."""
    touches: float
    """The share of requests that it touches, 0 to 1."""
    budget_s: float | None
    """What one such event spends of the year's budget."""
    budget_share: float | None
    """The same as a share of the whole, 0 to 1 and above."""
    cost: float | None
    """The same in money, by the declared cost of downtime."""
    load: float | None
    """How much of its capacity the busiest region then uses at the peak; None: not declared."""
    write_ms: float | None
    """How long writes then wait for the journal: the median over the regions that serve."""
    made_of: str
    """What the pause is made of, for people."""


class Writes(Struct, frozen=True, kw_only=True):
    """How long writes of one region wait for the journal, in milliseconds; None: not known."""

    region: str
    mode: str
    provider: str
    nearest_ms: float | None
    """When the most convenient member leads."""
    usual_ms: float | None
    """The median over who leads."""
    farthest_ms: float | None
    """When the least convenient member leads."""
    share: float
    """Of all requests."""
    has_member: bool


class Budget(Struct, frozen=True, kw_only=True):
    """What a year allows."""

    slo: float
    year_s: float
    """Seconds a year in which nothing may work."""
    cost: float
    """What these cost."""
    currency: str


class Plan(Struct, frozen=True, kw_only=True):
    """What is declared, reckoned through."""

    platform: str
    budget: Budget
    heartbeat_ms: int
    election_ms: int
    detection_s: float
    """Until a region that is lost is out of DNS answers."""
    losses: tuple[Loss, ...]
    writes: tuple[Writes, ...]
    verdict: Verdict


def make_plan(platform: Platform) -> Plan:
    """Reckon a platform through. It need not have passed the placement check."""
    times = journal_times(platform)
    year_s = (1 - platform.slo) * YEAR_S
    return Plan(
        platform=platform.platform,
        budget=Budget(
            slo=platform.slo,
            year_s=year_s,
            cost=year_s * platform.downtime_cost_per_hour / 3_600,
            currency=platform.currency,
        ),
        heartbeat_ms=times.heartbeat_ms,
        election_ms=times.election_ms,
        detection_s=detection_s(platform),
        losses=tuple(_Reckoning(platform).losses()),
        writes=tuple(_writes(platform, region) for region in platform.regions),
        verdict=judge(platform),
    )


def detection_s(platform: Platform) -> float:
    """Return how long it takes at the most until a region that is lost is out of DNS answers.

    A probe that began just before may still be answered; then as many fail as are asked for, one a round, the last of
    them by its timeout; and the reports are read in the round after.
    """
    timings = platform.timings
    return (timings.losses_to_down + 1) * timings.look_s + timings.probe_timeout_s


def _writes(platform: Platform, region: Region) -> Writes:
    found = write_latency(platform, region) if region.nodes else None
    return Writes(
        region=region.name,
        mode=region.mode if region.nodes else "member",
        provider=region.provider,
        nearest_ms=found.nearest if found else None,
        usual_ms=found.usual if found else None,
        farthest_ms=found.farthest if found else None,
        share=shares(platform)[region.name],
        has_member=region.name in platform.member_regions,
    )


class _Reckoning:
    """The losses of one platform, in the order in which they are told: the small ones first."""

    def __init__(self, platform: Platform) -> None:
        self._platform = platform
        self._shares = shares(platform)
        self._largest = max(self._shares.values(), default=0.0)
        self._detection_s = detection_s(platform)
        self._ttl_s = float(platform.traffic.ttl_s)
        self._election = election(platform)

    def losses(self) -> list[Loss]:
        """Return them."""
        ttl = f"TTL {self._ttl_s:.0f} s"
        found = [
            self._part("node", NEXT_TRY_S, self._node_share(), "the edge asks another node"),
            self._part(
                "edge", RESTART_S, self._largest, "restart of the edge; our client asks the next region", NEXT_TRY_S
            ),
            self._part("nameserver", 0.0, 0.0, f"resolvers ask another region's; they keep answers for {ttl}"),
            self._part("controller", 0.0, 0.0, "the last good configuration stays; other regions' go on"),
            self._part("historian", 0.0, 0.0, "other regions' archive goes on; the journal keeps the rest"),
            self._part("journal_follower", 0.0, 0.0, "a majority is left; writes go on by the leader"),
            self._leader(),
        ]
        found += [self._regions("region", region.name, (region.name,)) for region in self._platform.regions]
        found += [
            self._regions("provider", provider, regions_of(self._platform, provider))
            for provider in providers(self._platform)
        ]
        return [*found, self._everything()]

    def _node_share(self) -> float:
        """The share of one node: the largest that there is."""
        return max((self._shares[r.name] / r.nodes for r in self._platform.serving_regions), default=0.0)

    def _part(
        self,
        kind: Literal["node", "edge", "nameserver", "controller", "historian", "journal_follower"],
        pause_s: float,
        touches: float,
        made_of: str,
        pause_own_s: float | None = None,
    ) -> Loss:
        own = pause_s if pause_own_s is None else pause_own_s
        return self._loss(kind, "", own, pause_s, touches, pause_s * touches, made_of, ())

    def _leader(self) -> Loss:
        if self._election is None:
            return self._loss("journal_leader", "", None, None, 1.0, None, "no majority is left", ())
        times = journal_times(self._platform)
        mean, worst = self._election
        made_of = (
            f"election: {mean:.2f} s expected, {worst:.2f} s at the most, of {times.election_ms} ms and two round trips"
            "; nodes hold writes"
        )
        return self._loss("journal_leader", "", mean, worst, 1.0, mean, made_of, ())

    def _regions(self, kind: Literal["region", "provider"], name: str, lost: tuple[str, ...]) -> Loss:
        """What the loss of some regions at once costs."""
        platform = self._platform
        left = members(platform, lost)
        count = len(platform.member_regions)
        if len(left) < majority(count) or not serving(platform, lost):
            what = "no region with nodes is left" if len(left) >= majority(count) else "no majority of the journal"
            return self._loss(
                kind, name, None, None, 1.0, None, f"{what}: reads at most, until it is back; nothing is lost", lost
            )
        touched = sum(self._shares[each] for each in lost)
        chance = (count - len(left)) / count
        elected = election(platform, lost)
        assert elected is not None
        steered_s = self._detection_s + self._ttl_s
        parts = []
        own_s = others_s = budget_s = 0.0
        if touched:
            own_s, others_s, budget_s = NEXT_REGION_S, steered_s, steered_s * touched
            parts.append(f"detection {self._detection_s:.1f} s and TTL {self._ttl_s:.0f} s; our client's next try")
        if chance:
            own_s = max(own_s, elected.mean_s)
            others_s = max(others_s, elected.worst_s)
            budget_s += chance * elected.mean_s * (1 - touched)
            parts.append(f"an election of {elected.mean_s:.2f} s, if it leads (1 in {1 / chance:.3g})")
        promoted = [r.name for r in serving(platform, lost) if r.mode == "standby"]
        if promoted:
            parts.append(f"{' and '.join(promoted)} promoted")
        made_of = "; ".join(parts) or "nobody notices"
        return self._loss(kind, name, own_s, others_s, touched, budget_s, made_of, lost)

    def _everything(self) -> Loss:
        names = tuple(region.name for region in self._platform.regions)
        made_of = (
            f"restore from an archive, counted as {RESTORE_S / 60:.0f} minutes; nothing is lost where one majority's "
            f"disks come back, else up to {self._platform.archive.seal_s:g} s not archived yet"
        )
        return self._loss("everything", "", RESTORE_S, RESTORE_S, 1.0, RESTORE_S, made_of, names)

    def _loss(
        self,
        kind: Literal[
            "node",
            "edge",
            "nameserver",
            "controller",
            "historian",
            "journal_follower",
            "journal_leader",
            "region",
            "provider",
            "everything",
        ],
        name: str,
        pause_s: float | None,
        pause_others_s: float | None,
        touches: float,
        budget_s: float | None,
        made_of: str,
        lost: tuple[str, ...],
    ) -> Loss:
        platform = self._platform
        year_s = (1 - platform.slo) * YEAR_S
        return Loss(
            kind=kind,
            name=name,
            recovery_point_s=platform.archive.seal_s if kind == "everything" else 0.0,
            pause_s=pause_s,
            pause_others_s=pause_others_s,
            touches=touches,
            budget_s=budget_s,
            budget_share=None if budget_s is None else budget_s / year_s,
            cost=None if budget_s is None else budget_s * platform.downtime_cost_per_hour / 3_600,
            load=_load(platform, lost),
            write_ms=_write_ms(platform, lost),
            made_of=made_of,
        )


def _load(platform: Platform, lost: tuple[str, ...]) -> float | None:
    """Return how much of its capacity the busiest region uses at the peak, or None where that is not declared."""
    taken = shares(platform, lost)
    rooms = {region.name: platform.capacity_per_s(region) for region in serving(platform, lost)}
    loads = [taken[name] * platform.peak_per_s / room for name, room in rooms.items() if room]
    return max(loads) if platform.peak_per_s and loads and len(loads) == len(rooms) else None


def _write_ms(platform: Platform, lost: tuple[str, ...]) -> float | None:
    """Return how long writes wait in the mean over all requests, or None where that is not known."""
    taken = shares(platform, lost)
    found = [(write_latency(platform, region, lost), taken[region.name]) for region in serving(platform, lost)]
    if not found or any(latency is None for latency, _ in found):
        return None
    return sum(latency.usual * share for latency, share in found if latency is not None)
