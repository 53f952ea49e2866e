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

from fivenines.platform.latency import election, journal_times, members, write_latency
from fivenines.platform.sharing import providers, regions_of, serving, shares
from fivenines.platform.spec import Platform, Region
from fivenines.platform.verdict import Verdict, judge

__all__ = ["Budget", "Kind", "Loss", "Piece", "Plan", "Writes", "make_plan"]

Kind = Literal[
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
"""What can be lost."""

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


class Piece(Struct, frozen=True, kw_only=True):
    """One part of a pause."""

    name: str
    """Such as detection, TTL, election."""
    seconds: float


class Loss(Struct, frozen=True, kw_only=True):
    """What one loss costs."""

    kind: Kind
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
    """How much of its capacity the busiest region then uses at the peak; None: not declared, or as ever."""
    write_ms: float | None
    """How long writes then wait for the journal: the median over the regions that serve."""
    made_of: tuple[Piece, ...]
    """What the pause is made of. Not all of it is waited for by everybody: `note` says who waits for what."""
    note: str
    """The same for people."""


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
    soon_s = (timings.losses_to_down - 1) * timings.probe_s / 4
    return timings.probe_s + soon_s + timings.probe_timeout_s + timings.look_s


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
        platform = self._platform
        retry, restart = Piece(name="next try", seconds=NEXT_TRY_S), Piece(name="restart", seconds=RESTART_S)
        names = f"resolvers ask another region's; what they know they keep for the TTL of {self._ttl_s:.0f} s"
        found = [
            self._loss(
                "node",
                own_s=NEXT_TRY_S,
                others_s=NEXT_TRY_S,
                touches=self._node_share(),
                made_of=(retry,),
                note="its edge asks another node; an agent begins it again",
                load=_load(platform, nodes_less=1),
            ),
            self._loss(
                "edge",
                own_s=NEXT_TRY_S,
                others_s=RESTART_S,
                touches=self._largest,
                made_of=(retry, restart),
                note=f"an agent begins it again, {RESTART_S:g} s; ours ask the next region meanwhile",
            ),
            self._loss("nameserver", note=names),
            self._loss("controller", note="the last good configuration stays, and other regions' controllers go on"),
            self._loss("historian", note="other regions' archives go on, and the journal keeps what this one lacks"),
            self._loss("journal_follower", note="a majority is left, and the leader goes on"),
            self._leader(),
        ]
        found += [self._regions("region", region.name, (region.name,)) for region in platform.regions]
        found += [self._regions("provider", each, regions_of(platform, each)) for each in providers(platform)]
        return [*found, self._everything()]

    def _node_share(self) -> float:
        """The share of one node: the largest that there is."""
        return max((self._shares[r.name] / r.nodes for r in self._platform.serving_regions), default=0.0)

    def _leader(self) -> Loss:
        if self._election is None:
            note = "no majority is left: reads at most, until it is back; nothing is lost"
            return self._loss("journal_leader", own_s=None, others_s=None, touches=1.0, note=note)
        mean, worst = self._election
        wait_s = journal_times(self._platform).election_ms / 1_000
        note = (
            f"an election: {wait_s:g} to {2 * wait_s:g} s of silence, then two round trips to a majority; nodes hold "
            "writes meanwhile, reads go on"
        )
        pieces = (Piece(name="election", seconds=mean),)
        return self._loss(
            "journal_leader", own_s=mean, others_s=worst, touches=1.0, budget_s=mean, made_of=pieces, note=note
        )

    def _regions(self, kind: Kind, name: str, lost: tuple[str, ...]) -> Loss:
        """What the loss of some regions at once costs."""
        platform = self._platform
        elected = election(platform, lost)
        if elected is None or not serving(platform, lost):
            what = "no majority of the journal is left" if elected is None else "no region with nodes is left"
            note = f"{what}: reads at most, until it is back; nothing is lost"
            return self._loss(kind, name, own_s=None, others_s=None, touches=1.0, note=note, lost=lost)
        touched = sum(self._shares[each] for each in lost)
        count = len(platform.member_regions)
        chance = (count - len(members(platform, lost))) / count
        own_s = others_s = budget_s = 0.0
        notes, pieces = [], []
        if touched:
            others_s = self._detection_s + self._ttl_s
            own_s, budget_s = NEXT_REGION_S, others_s * touched
            pieces += [
                Piece(name="next try", seconds=NEXT_REGION_S),
                Piece(name="detection", seconds=self._detection_s),
                Piece(name="TTL", seconds=self._ttl_s),
            ]
            notes.append(
                f"ours: next try, {NEXT_REGION_S:g} s; others: detection {self._detection_s:g} s and TTL "
                f"{self._ttl_s:.0f} s"
            )
        if chance:
            own_s, others_s = max(own_s, elected.mean_s), max(others_s, elected.worst_s)
            budget_s += chance * elected.mean_s * (1 - touched)
            pieces.append(Piece(name="election", seconds=elected.mean_s))
            notes.append("all: an election, if it leads")
        if any(region.mode == "standby" for region in serving(platform, lost)):
            notes.append("standbys are promoted")
        note = "; ".join(notes) or "nobody notices"
        return self._loss(
            kind,
            name,
            own_s=own_s,
            others_s=others_s,
            touches=touched,
            budget_s=budget_s,
            made_of=tuple(pieces),
            note=note,
            load=_load(platform, lost),
            lost=lost,
        )

    def _everything(self) -> Loss:
        note = (
            f"restored from an archive, counted as {RESTORE_S / 60:.0f} minutes; nothing is lost where the disks of a "
            f"majority come back, else what was not archived yet, up to {self._platform.archive.seal_s:g} s"
        )
        return self._loss(
            "everything",
            own_s=RESTORE_S,
            others_s=RESTORE_S,
            touches=1.0,
            made_of=(Piece(name="restore", seconds=RESTORE_S),),
            note=note,
            lost=tuple(region.name for region in self._platform.regions),
        )

    def _loss(
        self,
        kind: Kind,
        name: str = "",
        *,
        own_s: float | None = 0.0,
        others_s: float | None = 0.0,
        touches: float = 0.0,
        budget_s: float | None = None,
        made_of: tuple[Piece, ...] = (),
        note: str,
        load: float | None = None,
        lost: tuple[str, ...] = (),
    ) -> Loss:
        """Make a row; without `budget_s` the budget is what others wait, for all that it touches."""
        platform = self._platform
        year_s = (1 - platform.slo) * YEAR_S
        if budget_s is None and others_s is not None:
            budget_s = others_s * touches
        return Loss(
            kind=kind,
            name=name,
            recovery_point_s=platform.archive.seal_s if kind == "everything" else 0.0,
            pause_s=own_s,
            pause_others_s=others_s,
            touches=touches,
            budget_s=budget_s,
            budget_share=None if budget_s is None else budget_s / year_s,
            cost=None if budget_s is None else budget_s * platform.downtime_cost_per_hour / 3_600,
            load=load,
            write_ms=_write_ms(platform, lost),
            made_of=made_of,
            note=note,
        )


def _load(platform: Platform, lost: tuple[str, ...] = (), *, nodes_less: int = 0) -> float | None:
    """Return how much of its capacity the busiest region uses at the peak, or None where that is not declared.

    With `nodes_less` each region has so many nodes less.
    """
    taken = shares(platform, lost)
    loads = []
    for region in serving(platform, lost):
        room = platform.capacity_per_s(region)
        if room is None:
            return None
        left = room * (region.nodes - nodes_less) / region.nodes
        if left:
            loads.append(taken[region.name] * platform.peak_per_s / left)
    return max(loads) if platform.peak_per_s and loads else None


def _write_ms(platform: Platform, lost: tuple[str, ...]) -> float | None:
    """Return how long writes wait in the mean over all requests, or None where that is not known."""
    taken = shares(platform, lost)
    found = [(write_latency(platform, region, lost), taken[region.name]) for region in serving(platform, lost)]
    if not found or any(latency is None for latency, _ in found):
        return None
    return sum(latency.usual * share for latency, share in found if latency is not None)
