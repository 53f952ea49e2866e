"""What distances cost a platform: round trips between its regions, the journal's times, and the latency of writes.

A write goes from a node to the member that leads, which waits until a majority has it on disk, itself included. So it
takes the round trip to the leader, and from there the round trip to the farthest member of the nearest majority. Any
member may lead; where the figure must be one, it is the median over who leads.

The journal's times follow etcd's own rule (etcd, "Tuning": a heartbeat of 0.5 to 1.5 round trips between members,
elections of at least ten round trips, 50 s at most). How long an election takes follows from Raft: a follower waits
between one and two election times since it last heard from the leader, evenly spread, and the first of n - 1 to lose
patience waits 1 + 1/n of one in the mean; then votes and the first entry take a round trip to a majority each. For
three members and 200 ms that is 0.27 s, where 0.25 s was measured (docs/benchmarks.md).
"""

from collections.abc import Collection
from math import ceil
from statistics import median
from typing import NamedTuple

from fivenines.platform.distance import round_trip_ms
from fivenines.platform.spec import Platform, Region

__all__ = [
    "LOCAL_MS",
    "Election",
    "JournalTimes",
    "WriteLatency",
    "between_ms",
    "election",
    "farthest_ms",
    "journal_times",
    "majority",
    "write_latency",
]

LOCAL_MS = 0.2
"""A round trip within one machine, or one building."""
UNKNOWN_MS = 100.0
"""What the journal's times are set for when nobody knows how far its members are apart."""
HEARTBEAT_MS_MIN = 20
"""Shorter ones were not measured to be safe on a busy machine."""
ELECTION_HEARTBEATS = 10


class JournalTimes(NamedTuple):
    """The settings of etcd, the same at all members."""

    heartbeat_ms: int
    election_ms: int


class Election(NamedTuple):
    """How long nobody leads when the leader is lost."""

    mean_s: float
    worst_s: float
    """... if the first election decides."""


class WriteLatency(NamedTuple):
    """How long a write waits for the journal, seen from one region, in milliseconds."""

    nearest: float
    """When the most convenient member leads."""
    usual: float
    """The median over who leads."""
    farthest: float
    """When the least convenient member leads."""


def between_ms(a: Region, b: Region) -> float | None:
    """Return the round trip between two regions, or None where it is not known where one of them is."""
    if a.name == b.name or (a.is_local and b.is_local):
        return LOCAL_MS
    here, there = a.point, b.point
    return None if here is None or there is None else round_trip_ms(here, there)


def majority(count: int) -> int:
    """Return how many of so many members decide."""
    return count // 2 + 1


def members(platform: Platform, lost: Collection[str] = ()) -> list[Region]:
    """Return the regions with a member that is left; names without a region do not count."""
    named = set(platform.member_regions)
    return [region for region in platform.regions if region.name in named and region.name not in lost]


def farthest_ms(platform: Platform) -> float | None:
    """Return the longest round trip between two members, or None where one of them is nobody knows where."""
    found = members(platform)
    trips = [between_ms(a, b) for a in found for b in found if a.name < b.name]
    known = [each for each in trips if each is not None]
    return max(known, default=LOCAL_MS) if len(known) == len(trips) else None


def journal_times(platform: Platform, *, is_local: bool = False) -> JournalTimes:
    """Return heartbeat and election time: as declared, or by the distances.

    Args:
        platform: what was declared.
        is_local: whether all of it runs on one machine, wherever its regions are said to be.
    """
    farthest = LOCAL_MS if is_local else farthest_ms(platform)
    by_distance = ceil((UNKNOWN_MS if farthest is None else farthest) / 10) * 10
    declared = platform.journal
    if declared.heartbeat_ms is None and declared.election_ms is not None:
        heartbeat = max(1, declared.election_ms // ELECTION_HEARTBEATS)
    else:
        heartbeat = declared.heartbeat_ms or max(HEARTBEAT_MS_MIN, by_distance)
    return JournalTimes(heartbeat, declared.election_ms or min(50_000, heartbeat * ELECTION_HEARTBEATS))


def _commit_ms(leader: Region, left: list[Region], decide: int) -> float | None:
    """Return how long a leader waits for a majority of all members, or None where that is not known."""
    trips = [0.0 if each.name == leader.name else between_ms(leader, each) for each in left]
    known = sorted(each for each in trips if each is not None)
    return known[decide - 1] if len(known) >= decide else None


def write_latency(platform: Platform, region: Region, lost: Collection[str] = ()) -> WriteLatency | None:
    """Return how long a write of a region waits for the journal when the regions named in `lost` are gone.

    None where too few places are known, or the journal has no majority.
    """
    left = members(platform, lost)
    decide = majority(len(platform.member_regions))
    found = []
    for leader in left:
        there, commit = between_ms(region, leader), _commit_ms(leader, left, decide)
        if there is None or commit is None:
            return None
        found.append(commit if region.name == leader.name else there + commit)
    return WriteLatency(min(found), median(found), max(found)) if found else None


def election(platform: Platform, lost: Collection[str] = ()) -> Election | None:
    """Return how long writes wait when the leader is lost, or None where the others are no majority."""
    times = journal_times(platform)
    left = members(platform, lost)
    count = len(platform.member_regions)
    decide = majority(count)
    if len(left) < decide + (0 if lost else 1):
        return None
    trips = [_commit_ms(each, left, decide) for each in left]
    known = [each for each in trips if each is not None]
    trip_s = (median(known) if known else UNKNOWN_MS) / 1_000
    wait_s = times.election_ms / 1_000
    return Election(wait_s * (1 + 1 / count) + 2 * trip_s, 2 * wait_s + 2 * trip_s)
