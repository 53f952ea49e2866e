"""The fleet: what the nodes of a shared journal tell each other, and what each of them makes of it.

Every node posts a `Statement` beside the frames, and reads those of the others: where it is, which rules it can run,
which snapshot is on its disk, what its audits came to. From that follow, by pure functions and without a leader:

- whether this node agrees with the others (`audit.dissent`), or must take itself out of service;
- how far the journal may be trimmed: behind snapshots on disk in a majority of regions (`safe_position`), and behind
  what historians have archived (`archived_position`);
- which node trims (`trimmer`): any may, several at once even, so this only spares work;
- whose snapshot a node that has none, or an old one, should begin with (`snapshot_sources`);
- which rules all nodes can run.

`Fleet` looks, decides and acts twice a second. A node that hears of nobody changes nothing by itself.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import structlog
from msgspec import Struct

import fivenines
from fivenines.api import FleetNode
from fivenines.journal import JournalError, Notice, Position, SharedJournal
from fivenines.ledger import IMAGE_VERSION, RULES
from fivenines.node.audit import Auditor, dissent
from fivenines.node.settings import FleetSettings, Identity

if TYPE_CHECKING:
    from fivenines.node.node import Node

__all__ = [
    "Fleet",
    "Member",
    "Statement",
    "archived_position",
    "audits_of",
    "members_of",
    "safe_position",
    "snapshot_sources",
    "trim_bound",
    "trimmer",
    "unable",
]

_log = structlog.get_logger("fivenines.node")

_POST_S_MAX = 1.0
"""A notice that takes longer is given up: the next one says more."""


class Statement(Struct, frozen=True, kw_only=True):
    """What a node says of itself. A field that is added later has a default: older nodes do not say it."""

    instance: str
    """Of the process: another one under the same name is a mistake of whoever started it."""
    region: str
    url: str
    version: str
    rules: list[int]
    position: Position
    snapshot_position: Position
    """Of the newest snapshot on its disk, 0 for none."""
    snapshot_digest: str
    """The digest of the state in that snapshot, in hex."""
    image: int
    """The version of its images: audits of different ones cannot be compared."""
    audits: dict[Position, str]
    out_of_service: str | None
    role: Literal["node", "historian"] = "node"
    archived: dict[str, Position] = {}
    """Of a historian: up to where frames are in each archive that it keeps, or on its own disk on the way there."""
    copies: int = 0
    """Of a historian: in how many archives frames must be before the journal lets go of them."""


class Member(Struct, frozen=True):
    """A node of the fleet, as we know it."""

    name: str
    statement: Statement
    age_s: float
    """How long it has been silent."""

    @property
    def is_node(self) -> bool:
        """Whether it serves the ledger."""
        return self.statement.role == "node"


def members_of(notices: Mapping[str, Notice], now_s: float) -> list[Member]:
    """Read the notices, in the order of the nodes' names. One that cannot be read is left out: a newer release's."""
    found = []
    for name, notice in sorted(notices.items()):
        try:
            statement = _decode(notice.content)
        except msgspec.DecodeError as error:
            _log.warning("fleet.unreadable", node=name, reason=str(error))
            continue
        found.append(Member(name, statement, now_s - notice.heard_s))
    return found


def is_well(member: Member, silent_s_max: float) -> bool:
    """Whether a node serves, as far as we know."""
    return member.age_s <= silent_s_max and member.statement.out_of_service is None


def audits_of(members: Iterable[Member], *, other_than: str) -> list[Mapping[Position, str]]:
    """Return the audits of the nodes that serve, other than the one of that name, which ours can be compared with."""
    return [
        member.statement.audits
        for member in members
        if member.name != other_than
        and member.is_node
        and member.statement.out_of_service is None
        and member.statement.image == IMAGE_VERSION
    ]


def unable(notices: Mapping[str, Notice], rules: int, now_s: float, silent_s_max: float) -> list[str]:
    """Return the nodes that were heard of lately and do not say, as far as we can read, that they can run the rules."""
    able = {member.name for member in members_of(notices, now_s) if rules in member.statement.rules}
    return [
        name for name, notice in sorted(notices.items()) if name not in able and now_s - notice.heard_s <= silent_s_max
    ]


def safe_position(members: Iterable[Member], silent_s_max: float) -> Position:
    """Return the position up to which snapshots are on disk in a majority of regions, 0 if there is none.

    A region counts as long as any node of it was ever heard of; its snapshots only while the node that has them is
    well.
    """
    held: dict[str, Position] = {}
    for member in members:
        if not member.is_node:
            continue
        region = member.statement.region
        position = member.statement.snapshot_position if is_well(member, silent_s_max) else 0
        held[region] = max(held.get(region, 0), position)
    ranked = sorted(held.values(), reverse=True)
    return ranked[len(ranked) // 2] if ranked else 0


def trimmer(members: Iterable[Member], silent_s_max: float) -> str | None:
    """Return the name of the node that trims: the first one that is well."""
    return next((member.name for member in members if member.is_node and is_well(member, silent_s_max)), None)


def archived_position(members: Iterable[Member]) -> Position | None:
    """Return the position up to which frames are in as many archives as wanted; None if nobody keeps an archive.

    What is archived stays so, whether the historian that said it is well or not.
    """
    historians = [member.statement for member in members if not member.is_node]
    if not historians:
        return None
    archived: dict[str, Position] = {}
    for each in historians:
        for archive, position in each.archived.items():
            archived[archive] = max(archived.get(archive, 0), position)
    copies = max(each.copies for each in historians)
    ranked = sorted(archived.values(), reverse=True)
    return ranked[copies - 1] if 0 < copies <= len(ranked) else 0


def trim_bound(
    safe: Position, archived: Position | None, *, tail_bytes: int, fullness: float, settings: FleetSettings
) -> Position:
    """Return how far the journal may be trimmed: behind snapshots, and behind the archive as long as there is room.

    Money moves on without an archive. So when the journal has no more room to wait for it, frames go that are in none:
    the books are whole all the same, in the snapshots, and history has a gap, which is told.

    Args:
        safe: up to where snapshots are.
        archived: up to where frames are archived; None if nobody keeps an archive.
        tail_bytes: what the journal holds.
        fullness: how much of its room is taken; for small frames much more than their bytes tell.
        settings: what it may hold.
    """
    if archived is None or archived >= safe:
        return safe
    can_wait = tail_bytes <= settings.unarchived_bytes_max and fullness < settings.fullness_max
    return archived if can_wait else safe


def snapshot_sources(
    members: Iterable[Member], *, me: str, own: Position | None, first: Position, ahead_min: int, silent_s_max: float
) -> list[Member]:
    """Return the nodes whose snapshots would be a better start than our own, the best first.

    Args:
        members: the fleet.
        me: our own name.
        own: the position of our newest snapshot, None if there is none.
        first: the oldest position that the journal still has.
        ahead_min: how many frames newer than ours another one must be, so that fetching it pays.
        silent_s_max: whoever is silent for longer is not asked.
    """
    own_will_do = first == 1 if own is None else own + 1 >= first
    least = max(first - 1, (own or 0) + ahead_min if own_will_do else 1)
    found = [
        member
        for member in members
        if member.is_node
        and member.name != me
        and is_well(member, silent_s_max)
        and member.statement.snapshot_position >= least
    ]
    return sorted(found, key=lambda member: (-member.statement.snapshot_position, member.name))


class Fleet:
    """One node's part in its fleet."""

    def __init__(self, node: "Node", journal: SharedJournal, identity: Identity, settings: FleetSettings) -> None:
        self.identity = identity
        self.settings = settings
        self._node = node
        self._journal = journal
        self._auditor = Auditor(node.state)
        self._instance = node.writer.id.hex()
        self._was_heard = False
        self._posted: tuple[Any, ...] = ()
        self._posted_s = float("-inf")
        self._trimming: asyncio.Task[None] | None = None
        self._tidied_s = asyncio.get_running_loop().time()
        self._is_cut_off = False
        node.replica.listen(self._auditor.on_applied)

    @property
    def members(self) -> list[Member]:
        """All nodes that were ever heard of."""
        return members_of(self._journal.notices, asyncio.get_running_loop().time())

    @property
    def tail_bytes(self) -> int:
        """What the payloads of the frames that the journal keeps amount to."""
        return self._journal.tail_bytes

    def lacking(self, rules: int) -> list[str]:
        """Return the nodes that were heard of lately and cannot run a version of the rules."""
        return unable(self._journal.notices, rules, asyncio.get_running_loop().time(), self.settings.silent_s_max)

    def described(self) -> list[FleetNode]:
        """Return the fleet as the API shows it."""
        return [
            FleetNode(
                name=member.name,
                role=member.statement.role,
                region=member.statement.region,
                url=member.statement.url,
                version=member.statement.version,
                rules=member.statement.rules,
                position=member.statement.position,
                snapshot_position=member.statement.snapshot_position,
                heard_s_ago=round(member.age_s, 3),
                out_of_service=member.statement.out_of_service,
            )
            for member in self.members
        ]

    async def run(self) -> None:
        """Look, decide and act at intervals, until cancelled."""
        try:
            while True:
                await self.look()
                await asyncio.sleep(self.settings.interval_s)
        finally:
            if self._trimming is not None:
                self._trimming.cancel()

    async def look(self) -> None:
        """Do what is to be done now."""
        self._mind_the_gap()
        await self._post()
        if self._node.out_of_service is not None:
            return
        if self._journal.failed is not None:
            self._node.leave(self._journal.failed)
            return
        members = self.members
        self._look_for_double(members)
        if (position := dissent(self._auditor.audits, audits_of(members, other_than=self.identity.name))) is not None:
            self._node.leave(f"its state differs from that of the majority at position {position}", is_suspect=True)
            await self._post()
            return
        self._trim_if_due(members)

    def _mind_the_gap(self) -> None:
        """Send those home who wait for a journal that is out of reach; tell when that begins and ends."""
        cut_off = self._journal.cut_off
        if cut_off is not None:
            self._node.writer.refuse_waiting(cut_off)
        if (cut_off is not None) is not self._is_cut_off:
            self._is_cut_off = cut_off is not None
            if cut_off is not None:
                _log.warning("journal.cut_off", reason=cut_off, position=self._node.replica.position)
            else:
                _log.info("journal.reached_again", position=self._node.replica.position)

    def _look_for_double(self, members: list[Member]) -> None:
        """Tell when another process goes by our name: each hides the other, and their region counts wrongly.

        At first there may be a notice of the process that was here before; after our own there must be no other.
        """
        ours = next((member for member in members if member.name == self.identity.name), None)
        if ours is None:
            return
        is_ours = ours.statement.instance == self._instance
        if self._was_heard and not is_ours:
            _log.error("fleet.name_taken", node=ours.name, other=ours.statement.url)
        self._was_heard = is_ours

    async def _post(self) -> None:
        node = self._node
        now_s = asyncio.get_running_loop().time()
        news = (node.statistics.snapshot_position, next(reversed(self._auditor.audits), 0), node.out_of_service)
        if self._is_cut_off or (news == self._posted and now_s - self._posted_s < self.settings.refresh_s):
            return
        statement = Statement(
            instance=self._instance,
            region=self.identity.region,
            url=self.identity.url,
            version=fivenines.__version__,
            rules=sorted(RULES),
            position=node.replica.position,
            snapshot_position=node.statistics.snapshot_position,
            snapshot_digest=node.statistics.snapshot_digest.hex(),
            image=IMAGE_VERSION,
            audits=self._auditor.audits,
            out_of_service=node.out_of_service,
        )
        try:
            async with asyncio.timeout(_POST_S_MAX):
                await self._journal.post_notice(self.identity.name, _encode(statement))
        except (JournalError, TimeoutError) as error:
            _log.info("fleet.not_posted", reason=str(error) or f"no answer within {_POST_S_MAX} s")
            return
        self._posted, self._posted_s = news, now_s

    def _trim_if_due(self, members: list[Member]) -> None:
        settings, now_s = self.settings, asyncio.get_running_loop().time()
        if self._trimming is not None and not self._trimming.done():
            return
        if self._is_cut_off or trimmer(members, settings.silent_s_max) != self.identity.name:
            return
        is_nearly_full = self._journal.fullness >= settings.fullness_max
        is_long = is_nearly_full or self._journal.tail_bytes > settings.tail_bytes_max * settings.tail_share
        before = 0
        if is_long:
            wanted = self._journal.position_leaving(int(settings.tail_bytes_max * settings.tail_share / 2))
            archived = archived_position(members)
            safe = safe_position(members, settings.silent_s_max)
            bound = trim_bound(
                safe, archived, tail_bytes=self._journal.tail_bytes, fullness=self._journal.fullness, settings=settings
            )
            before = min(wanted, bound) + 1
            if archived is not None and before > max(archived + 1, self._journal.first):
                _log.error("journal.trimmed_unarchived", archived=archived, before=before)
        if before > self._journal.first or now_s - self._tidied_s >= settings.tidy_s:
            self._tidied_s = now_s
            self._trimming = asyncio.create_task(self._trim(before), name=f"trimming before {before}")

    async def _trim(self, before: Position) -> None:
        try:
            await self._journal.trim(before)
        except JournalError as error:
            _log.warning("journal.not_trimmed", reason=str(error))


_encode: Callable[[Statement], bytes] = msgspec.json.Encoder().encode
_decode: Callable[[bytes], Statement] = msgspec.json.Decoder(Statement).decode
