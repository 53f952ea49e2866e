"""What is wrong with the world at a moment, and what that means for who asks: the regions, and clients. Pure.

A `Trouble` is something that is wrong, with an effect. Effects and what they mean:

    gone         a region says nothing: no power, or nobody lets it run
    killed       the same, but its addresses refuse connections, as when processes are killed
    cut          a region lives, and nobody reaches it
    isolated     clients reach it, the other regions do not, so it takes no writes
    clients_cut  the other regions reach it, clients do not: no controller sees that
    failing      it fails a part of what it is asked, probes as well as requests
    empty        its edge has no node to ask
    fewer        it has only a part of its nodes left
    member       its member of the journal is away, and comes back with its data
    disk         its member of the journal has lost its data
    evacuate     an operator ordered it out
    shared       what all regions share is lost: no client finds any of them
    crowd        more clients than were planned for, in times of the peak

With the region left out an effect holds for all of them.
"""

from collections.abc import Collection, Iterable
from typing import Literal, NamedTuple

__all__ = ["Effect", "Trouble", "View", "view"]

Effect = Literal[
    "gone",
    "killed",
    "cut",
    "isolated",
    "clients_cut",
    "failing",
    "empty",
    "fewer",
    "member",
    "disk",
    "evacuate",
    "shared",
    "crowd",
]
_SILENT = frozenset({"gone", "cut", "isolated"})
_VOICELESS = frozenset({"gone", "killed", "cut", "isolated"})
"""What takes a region's controller away from the others."""
_UNREACHED = frozenset({"gone", "killed", "cut", "isolated", "clients_cut"})
"""What makes all requests of clients to a region fail."""
_NOBODY_THERE = (_UNREACHED - {"isolated"}) | {"empty"}
"""What leaves clients nobody to ask in a region: one that is isolated answers, if only that it takes no writes."""


class Trouble(NamedTuple):
    """Something that is wrong."""

    effect: Effect
    region: str = ""
    """Empty: all."""
    part: float = 1.0
    """Of requests that fail, with `failing`; of nodes that are left, with `fewer`; times of the peak, with `crowd`."""


class View(NamedTuple):
    """What follows for each region."""

    voices: frozenset[str]
    """Regions whose controllers the others hear."""
    probes_fail: dict[str, float]
    """By region, the chance that a probe of it fails, but for a journal without a majority."""
    silent: frozenset[str]
    """Regions that say nothing when asked; the others say no at once."""
    reached: frozenset[str]
    """Regions where clients find somebody to ask, whatever the answer is."""
    clients_fail: dict[str, float]
    """By region, the share of requests that fail there and would not elsewhere; without overload and the journal."""
    members: frozenset[str]
    """Regions whose member is up and reached by the others, with its data."""
    room: dict[str, float]
    """By region, the part of its capacity that is left; regions that are left out have all of it."""
    everywhere: float
    """The share of requests that fail wherever they go: another region does not help."""
    disks_lost: frozenset[str]
    ordered_out: frozenset[str]
    crowd: float
    """What comes is the larger of the usual and so many times the peak; 0: the usual."""
    is_shared_lost: bool


def view(troubles: Iterable[Trouble], regions: Collection[str], members: Collection[str]) -> View:
    """Return what follows from some troubles."""
    voices, held = set(regions), set(members)
    probes = dict.fromkeys(regions, 0.0)
    clients = dict.fromkeys(regions, 0.0)
    silent: set[str] = set()
    unreached: set[str] = set()
    disks: set[str] = set()
    out: set[str] = set()
    room: dict[str, float] = {}
    crowd, everywhere, is_shared_lost = 0.0, 0.0, False
    for effect, name, part in troubles:
        if effect == "crowd":
            crowd = max(crowd, part)
        is_shared_lost = is_shared_lost or effect == "shared"
        if effect == "failing" and not name:
            everywhere = 1.0 - (1.0 - everywhere) * (1.0 - part)
        for region in (name,) if name else regions:
            if effect in _SILENT:
                silent.add(region)
            if effect in _VOICELESS:
                voices.discard(region)
                held.discard(region)
                probes[region] = 1.0
            if effect in _NOBODY_THERE or effect == "shared":
                unreached.add(region)
            if effect in _UNREACHED or effect == "empty":
                clients[region] = 1.0
            if effect == "empty":
                probes[region] = 1.0
            elif effect == "fewer":
                room[region] = min(part, room.get(region, 1.0))
            elif effect == "failing":
                probes[region] = 1.0 - (1.0 - probes[region]) * (1.0 - part)
                if name:
                    clients[region] = 1.0 - (1.0 - clients[region]) * (1.0 - part)
            elif effect in {"member", "disk"}:
                held.discard(region)
                if effect == "disk":
                    disks.add(region)
            elif effect == "evacuate":
                out.add(region)
    return View(
        frozenset(voices),
        probes,
        frozenset(silent),
        frozenset(regions) - unreached,
        clients,
        frozenset(held),
        room,
        everywhere,
        frozenset(disks),
        frozenset(out),
        crowd,
        is_shared_lost,
    )
