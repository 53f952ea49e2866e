"""The placement check: refuses what is declared but could not keep its promise, with the reason and the way to mend it.

A promise is kept if it survives the loss of any one region and of any one provider: the journal keeps a majority, and
the regions that are left carry the peak. `RULES` is a tuple of functions, each of which looks at one thing and yields
what it finds; nothing here does I/O, so it says the same on every machine. Rules about names and ports stand in
`placement_names`.

Who knows better says so in the file, with a reason: `accepts: {provider_loss: ...}`. Then the finding is a warning.
"""

from collections.abc import Iterator
from urllib.parse import parse_qs, urlsplit

from msgspec.structs import asdict

from fivenines.platform.findings import Finding, refused, warned
from fivenines.platform.latency import ELECTION_HEARTBEATS, farthest_ms, journal_times, majority
from fivenines.platform.placement_names import NAME_RULES
from fivenines.platform.sharing import providers, regions_of, serving, shares
from fivenines.platform.spec import Platform, Region

__all__ = ["RULES", "Finding", "check"]

MEMBERS_MIN = 3


def check(platform: Platform) -> list[Finding]:
    """Return what is wrong with a platform, what is refused first. Empty: it keeps its promise."""
    found = [finding for rule in RULES for finding in rule(platform)]
    return sorted(found, key=lambda finding: finding.severity != "refused")


# --- regions ----------------------------------------------------------------------------------------------------------


def _regions(platform: Platform) -> Iterator[Finding]:
    """Two regions must be able to serve, or the loss of one is the loss of all."""
    able = platform.serving_regions
    if len(able) < 2:
        what = f"only {able[0].name} has nodes" if able else "no region has nodes"
        yield refused(
            "regions", ("regions",), f"{what}: when it is lost, nothing serves", "give a second region nodes: 2 or more"
        )
    elif not any(region.mode == "active" for region in able):
        yield refused("regions", ("regions",), "no region with nodes is active", "declare one of them mode: active")
    elif len({region.provider for region in able}) == 1:
        yield _unless_accepted(
            platform,
            "provider_loss",
            refused(
                "regions",
                ("regions",),
                f"all regions with nodes are at {able[0].provider}: without {able[0].provider} nothing serves",
                "give a region at another provider nodes, or accept it with `accepts: {provider_loss: WHY}`",
            ),
        )
    for number, region in enumerate(platform.regions):
        if region.mode == "standby" and not region.nodes:
            yield refused(
                "standby-room",
                ("regions", number, "nodes"),
                f"the standby {region.name} has no nodes, so it cannot be promoted",
                "give it nodes, or leave out mode: standby for a region that only holds a member of the journal",
            )
        if region.nodes == 1:
            yield _unless_accepted(
                platform,
                "single_node",
                refused(
                    "single-node",
                    ("regions", number, "nodes"),
                    f"{region.name} has one node: when that is restarted, the region is out",
                    "give it nodes: 2, or accept it with `accepts: {single_node: WHY}`",
                ),
            )
        if region.nodes > platform.scaling.nodes_max or 1 < region.nodes < platform.scaling.nodes_min:
            yield refused(
                "scaling",
                ("regions", number, "nodes"),
                f"{region.name} has {region.nodes} nodes, which is outside of what scaling allows: "
                f"{platform.scaling.nodes_min} to {platform.scaling.nodes_max}",
                "change its nodes, or scaling.nodes_min and scaling.nodes_max",
            )
        if platform.traffic.policy == "geo" and region.nodes and region.point is None:
            yield refused(
                "location",
                ("regions", number, "location"),
                f"nobody knows where {region.name} is, and the policy is geo",
                "give it a location",
            )
    if platform.scaling.nodes_min > platform.scaling.nodes_max:
        yield refused(
            "scaling",
            ("scaling", "nodes_min"),
            f"nodes_min is {platform.scaling.nodes_min}, more than nodes_max, which is {platform.scaling.nodes_max}",
            "swap them",
        )


def _weights(platform: Platform) -> Iterator[Finding]:
    """Whatever is lost, somebody must be left who gets traffic."""
    if platform.traffic.policy == "failover":
        return
    active = [region for region in platform.serving_regions if region.mode == "active"]
    weighty = [region for region in active if region.weight > 0]
    if active and not weighty:
        yield refused(
            "weights",
            ("regions",),
            "all active regions have weight 0: nothing says how much each is to get",
            "give them weights",
        )
    elif len(active) > 1 and len(weighty) == 1 and not any(r.mode == "standby" for r in platform.serving_regions):
        yield warned(
            "weights",
            ("regions",),
            f"{weighty[0].name} gets all traffic, as the other regions have weight 0: it is not known whether they "
            "carry it until they have to",
            "give each of them a small weight, or declare them mode: standby",
        )


# --- the journal ------------------------------------------------------------------------------------------------------


def _journal_members(platform: Platform) -> Iterator[Finding]:
    """A majority must be left when any one region or provider is lost."""
    where = ("journal", "members") if platform.journal.members is not None else ("regions",)
    names = platform.member_regions
    known = {region.name for region in platform.regions}
    for number, name in enumerate(platform.journal.members or ()):
        at = ("journal", "members", number)
        if name not in known:
            yield refused(
                "journal-members", at, f"{name} is no region", f"choose from {', '.join(sorted(known)) or 'regions'}"
            )
        elif name in names[:number]:
            yield refused("journal-members", at, f"{name} is there twice: a region holds one member", "leave one out")
    count = len(set(names) & known)
    if count < MEMBERS_MIN:
        yield refused(
            "journal-members",
            where,
            f"the journal has {_counted(count, 'member')}: with fewer than {MEMBERS_MIN} the loss of one is the loss "
            "of the majority",
            "add regions; one with nodes: 0 holds a member and serves nothing",
        )
        return
    if count % 2 == 0:
        yield refused(
            "journal-members",
            where,
            f"the journal has {count} members, an even number: it survives no more losses than {count - 1} do, and "
            "waits for one more",
            f"add a region with nodes: 0, or name {count - 1} of the regions in journal.members",
        )
    for provider in providers(platform):
        at_provider = [name for name in regions_of(platform, provider) if name in names]
        if count - len(at_provider) >= majority(count):
            continue
        yield _unless_accepted(
            platform,
            "provider_loss",
            refused(
                "journal-majority",
                where,
                f"{len(at_provider)} of {count} members of the journal are at {provider} "
                f"({', '.join(at_provider)}): without {provider} there is no majority, and nothing can be written",
                f"move members so that no provider holds more than {count - majority(count)} of {count}; a region with "
                "nodes: 0 at a third provider is enough. Or accept it with `accepts: {provider_loss: WHY}`",
            ),
        )


def _journal_times(platform: Platform) -> Iterator[Finding]:
    """Elections must be patient enough for the distances between members (etcd's own rules, see `latency`)."""
    times = journal_times(platform)
    at = ("journal", "election_ms" if platform.journal.election_ms is not None else "heartbeat_ms")
    if times.election_ms < 5 * times.heartbeat_ms:
        yield refused(
            "journal-times",
            at,
            f"election_ms is {times.election_ms}, less than five heartbeats of {times.heartbeat_ms} ms: etcd does not "
            "start with it",
            f"set election_ms to {ELECTION_HEARTBEATS * times.heartbeat_ms}",
        )
        return
    farthest = farthest_ms(platform)
    if farthest is None:
        unknown = ", ".join(r.name for r in platform.regions if r.point is None and r.name in platform.member_regions)
        yield warned(
            "location",
            ("regions",),
            f"nobody knows where these are: {unknown}; so nobody can say how long writes take, nor check the journal's "
            "times",
            "give each region a location",
        )
    elif farthest > 2 * times.heartbeat_ms or times.election_ms < ELECTION_HEARTBEATS * farthest:
        fitting = max(20, -(-int(farthest + 1) // 10) * 10)
        yield refused(
            "journal-times",
            at,
            f"the members of the journal are up to {farthest:.0f} ms apart, there and back: heartbeats of "
            f"{times.heartbeat_ms} ms and elections of {times.election_ms} ms elect without need, and each election is "
            "a pause",
            f"leave both out, or set heartbeat_ms to {fitting} and election_ms to {ELECTION_HEARTBEATS * fitting}",
        )
    if 2 * platform.journal.keep_tail_mib > platform.journal.quota_mib:
        yield refused(
            "journal-quota",
            ("journal", "keep_tail_mib"),
            f"keep_tail_mib is {platform.journal.keep_tail_mib}, more than half of quota_mib, which is "
            f"{platform.journal.quota_mib}",
            f"set quota_mib to {2 * platform.journal.keep_tail_mib} or more",
        )


# --- capacity ---------------------------------------------------------------------------------------------------------


def _capacity(platform: Platform) -> Iterator[Finding]:
    """Whoever is left when a region, or a provider, is lost must carry the peak (N-1)."""
    able = platform.serving_regions
    if not platform.peak_per_s:
        yield warned(
            "capacity",
            ("platform",),
            "no peak is declared, so nobody checks whether it is carried with the largest region lost",
            "set peak_per_s, and capacity_per_node_per_s",
        )
        return
    silent = [number for number, r in enumerate(platform.regions) if r.nodes and platform.capacity_per_s(r) is None]
    if silent:
        yield refused(
            "capacity",
            ("regions", silent[0]),
            f"peak_per_s is declared, but not what a node of {platform.regions[silent[0]].name} can take",
            "set capacity_per_node_per_s for the platform or the region; `fivenines bench` measures it",
        )
        return
    if not able:
        return
    losses: dict[str, tuple[str, ...]] = {"": ()}
    losses |= {region.name: (region.name,) for region in able}
    worst: tuple[float, str, str, float, float] | None = None
    providers_worst: tuple[float, str, str, float, float] | None = None
    for name, lost in losses.items():
        worst = _worse(worst, _overload(platform, name, lost))
    for provider in providers(platform):
        lost = regions_of(platform, provider)
        if len(lost) > 1:
            providers_worst = _worse(providers_worst, _overload(platform, f"the provider {provider}", lost))
    if worst is not None:
        yield _overloaded(platform, *worst[1:])
    if providers_worst is not None and (worst is None or providers_worst[0] > worst[0]):
        yield _unless_accepted(platform, "provider_loss", _overloaded(platform, *providers_worst[1:]))


_Overload = tuple[float, str, str, float, float]
"""How much is too much, what is lost, who is overloaded, with how much, and what it can take."""


def _worse(a: _Overload | None, b: _Overload | None) -> _Overload | None:
    return max((each for each in (a, b) if each is not None), default=None)


def _overload(platform: Platform, name: str, lost: tuple[str, ...]) -> _Overload | None:
    """Return the worst overload when some regions are lost, or None where all that are left carry their share."""
    left = serving(platform, lost)
    if not left:
        return (float("inf"), name, "", platform.peak_per_s, 0.0)
    found: _Overload | None = None
    for region in left:
        load = shares(platform, lost)[region.name] * platform.peak_per_s
        room = platform.capacity_per_s(region) or 0.0
        if load > room * (1 + 1e-9):
            found = _worse(found, (load - room, name, region.name, load, room))
    return found


def _overloaded(platform: Platform, lost: str, region: str, load: float, room: float) -> Finding:
    when = f"with {lost} lost" if lost else "with all regions up"
    if not region:
        return refused(
            "capacity", ("regions",), f"{when} no region with nodes is left", "give a region of another provider nodes"
        )
    number = next(number for number, each in enumerate(platform.regions) if each.name == region)
    nodes = platform.regions[number].nodes
    more = -int(-load * nodes // room) if room else nodes
    return refused(
        "capacity",
        ("regions", number),
        f"{when} {region} would get {load:,.0f} requests/s of the peak of {platform.peak_per_s:,.0f}, and can take "
        f"{room:,.0f}",
        f"give {region} nodes: {more}, less weight, or add a region",
    )


def _standby_room(platform: Platform) -> Iterator[Finding]:
    """A standby must be able to carry the largest active region, or promoting it moves the outage."""
    active = [region for region in platform.serving_regions if region.mode == "active"]
    for number, standby in enumerate(platform.regions):
        if standby.mode != "standby" or not standby.nodes or not active:
            continue
        rooms = {region.name: platform.capacity_per_s(region) for region in (*active, standby)}
        in_nodes = any(room is None for room in rooms.values())
        room = {r.name: float(r.nodes) if in_nodes else rooms[r.name] or 0.0 for r in (*active, standby)}
        largest = max(active, key=lambda region: room[region.name])
        if room[standby.name] < room[largest.name]:
            unit = "nodes" if in_nodes else "requests/s"
            yield refused(
                "standby-room",
                ("regions", number, "nodes"),
                f"the standby {standby.name} has room for {room[standby.name]:,.0f} {unit}, and the active "
                f"{largest.name}, in whose place it may be promoted, for {room[largest.name]:,.0f}",
                f"give it nodes: {_nodes_for(platform, standby, largest)}",
            )


def _nodes_for(platform: Platform, standby: Region, largest: Region) -> int:
    mine = platform.capacity_per_s(standby)
    theirs = platform.capacity_per_s(largest)
    if mine is None or theirs is None:
        return largest.nodes
    return -int(-theirs * standby.nodes // mine)


# --- what is kept -----------------------------------------------------------------------------------------------------


def _archives(platform: Platform) -> Iterator[Finding]:
    """History must be in two regions, each in a store of its own."""
    stores: dict[str, str] = {}
    places: dict[str, str] = {}
    for number, region in enumerate(platform.regions):
        if not region.nodes:
            continue
        url = region.archive or f"{region.name}/archive"
        at = ("regions", number, "archive")
        store, whole = _store(url)
        if store is None:
            yield refused(
                "archive",
                at,
                f"{url!r} names no store",
                "use s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX or a folder",
            )
            continue
        if whole in places:
            yield refused(
                "archive",
                at,
                f"{region.name} and {places[whole]} have the same archive: each region archives for itself",
                "give each its own, in a bucket of its own region",
            )
        places.setdefault(whole, region.name)
        stores.setdefault(store, region.name)
        if region.archive is None and not region.is_local:
            yield warned(
                "archive",
                at,
                f"{region.name} archives on a disk of its own machines, which are lost with it",
                "give it an archive in object storage, in a bucket of that region",
            )
    if len(stores) == 1 and len(platform.serving_regions) > 1:
        yield refused(
            "archive",
            ("regions",),
            f"all archives are in one bucket ({next(iter(stores))}): with its region lost, history is lost",
            "give two regions archives in buckets of their own",
        )


def _store(url: str) -> tuple[str | None, str]:
    """Return the bucket that a URL names, or None where it names none, and the place in it."""
    try:
        parts = urlsplit(url)
        options = parse_qs(parts.query)
    except ValueError:
        return None, url
    if parts.scheme in {"", "file"}:
        folder = (parts.path if parts.scheme else url).rstrip("/")
        return (folder or None), folder
    if parts.scheme not in {"s3", "gs", "az"} or not parts.netloc:
        return None, url
    endpoint = options.get("endpoint", [""])[0]
    store = f"{parts.scheme}://{parts.netloc}" + (f" at {endpoint}" if endpoint else "")
    return store, f"{store}/{parts.path.strip('/')}"


def _sql(platform: Platform) -> Iterator[Finding]:
    """History in SQL is a file of each historian, or one PostgreSQL."""
    if platform.sql in {"sqlite", "off"}:
        return
    if urlsplit(platform.sql).scheme.partition("+")[0] not in {"postgresql", "postgres"}:
        yield refused(
            "sql",
            ("sql",),
            f"{platform.sql!r} is no place for history",
            "use sqlite, off, or postgresql://USER@HOST/NAME",
        )


def _timings(platform: Platform) -> Iterator[Finding]:
    """Patience is more than nothing, and a report must not be late before the next one can be there."""
    timings = platform.timings
    for name, value in asdict(timings).items():
        if isinstance(value, int | float) and value <= 0:
            yield refused("timings", ("timings", name), f"{name} is {value}", "it must be more than 0")
    if 0 < timings.silent_s < 2 * timings.look_s:
        yield refused(
            "timings",
            ("timings", "silent_s"),
            f"silent_s is {timings.silent_s}, less than two rounds of look_s, which is {timings.look_s}: regions would "
            "lose their voice without need",
            f"set silent_s to {5 * timings.look_s} or more",
        )


# --- what all rules use -----------------------------------------------------------------------------------------------


def _unless_accepted(platform: Platform, risk: str, finding: Finding) -> Finding:
    """Turn a refusal into a warning where the platform is declared to live with it."""
    for accepted, why in platform.accepts.items():
        if accepted == risk:
            return warned(finding.rule, finding.path, finding.reason, f"accepted: {why}")
    return finding


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


RULES = (
    _regions,
    _weights,
    _journal_members,
    _journal_times,
    _capacity,
    _standby_room,
    _archives,
    _sql,
    _timings,
    *NAME_RULES,
)
"""In the order in which their findings are told."""
