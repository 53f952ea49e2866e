"""Ask a running platform for everything that it says of itself, and its journal: what `judge` judges by.

Every node is asked for its accounts and for what it has decided, every node and every historian for its events, every
database for its tables, every archive for its frames. All over plain HTTP, or by reading what is stored: a stranger
could do the same. Last of all the journal is read, so whatever anybody told is in it if it is true.

First it waits until those who follow the journal have come as far as it was when the waiting began: they promise no
more. Who does not get there, or does not answer, is written down as not heard, and the judge has an opinion on that.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypeVar

import httpx
import msgspec
from sqlalchemy import make_url, select
from sqlalchemy.exc import SQLAlchemyError

from fivenines.drill.checker.course import Totals
from fivenines.drill.checker.evidence import ArchiveSaid, Effected, Evidence, FeedSaid, NodeSaid, SqlSaid, Told
from fivenines.drill.load.asked import Asked
from fivenines.drill.running import RunningPlatform
from fivenines.historian.sql import SqlHistoryError, open_engine, projections
from fivenines.historian.sql.schema import Effect, tables_of
from fivenines.journal import Frame, JournalError
from fivenines.journal.archive import Archive, ArchiveError, MissingFramesError, ObjectDamagedError, open_store
from fivenines.journal.etcd import EtcdJournal, EtcdJournalSettings
from fivenines.ledger import Posting
from fivenines.platform.local.programs import archive_of
from fivenines.platform.topology import PORTS, Topology

__all__ = [
    "SOMETHING_WRONG",
    "Places",
    "ask_accounts",
    "ask_page",
    "gather",
    "gather_from",
    "places_of",
    "read_archive",
    "read_frames",
    "read_sql",
]

T = TypeVar("T")

_PAGE: Final = 1_000
_LOOK_S: Final = 0.1
_TIMEOUT_S: Final = 20.0
_TRIES: Final = 20
_ASKED: Final = frozenset({Effect.post, Effect.hold, Effect.settle, Effect.refused})
"""The effects of postings in SQL that a transaction named; what it did to the rest of a hold, it did not name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where everybody is."""

    journal: tuple[str, ...]
    """host:port of its members."""
    nodes: Mapping[str, str]
    """URLs, by name."""
    historians: Mapping[str, str] = field(default_factory=dict)
    archives: Mapping[str, str] = field(default_factory=dict)
    sql: Mapping[str, str] = field(default_factory=dict)


class _Account(msgspec.Struct):
    id: str
    balance: int
    debits: int
    credits: int
    held_debits: int
    held_credits: int


class _Accounts(msgspec.Struct):
    accounts: list[_Account]
    next: str | None


class _Platform(msgspec.Struct):
    position: int
    outcomes_digest: str
    journal_first: int
    journal_last: int


class _Posting(msgspec.Struct):
    source: str
    destination: str
    amount: int


class _Transaction(msgspec.Struct):
    id: str
    kind: str
    outcome: str
    position: int
    postings: list[_Posting] = []
    hold: str | None = None
    final: bool = True


class _Event(msgspec.Struct):
    id: str
    data: _Transaction


class _Events(msgspec.Struct):
    events: list[_Event]
    position: int


class _Store(msgspec.Struct):
    archived: int


class _Historian(msgspec.Struct):
    stores: list[_Store]
    sql_positions: dict[int, int] = {}


class _WrongAnswerError(Exception):
    """Somebody answered, and it is no answer."""


SOMETHING_WRONG: Final = (
    *(httpx.HTTPError, msgspec.MsgspecError, _WrongAnswerError, TimeoutError, OSError),
    *(ArchiveError, JournalError, SqlHistoryError, SQLAlchemyError),
)
"""What may become of a question."""


def places_of(topology: Topology, *, without: Collection[str] = ()) -> Places:
    """Say where the parts of a platform are, but for those of some regions."""
    regions = [each for each in topology.regions if each.name not in without]
    kept = [each for each in regions if each.nodes]
    sql = topology.spec.sql
    if sql == "sqlite":
        files = {each.name: topology.path / each.name / "history" / "history.db" for each in kept}
        databases = {f"history in SQL of {name}": f"sqlite:///{path.absolute()}" for name, path in files.items()}
    else:
        databases = {} if sql == "off" else {"history in SQL": sql}
    return Places(
        journal=topology.journal_endpoints(regions[0].name),
        nodes={node: f"http://{each.host}:{each.node_port(node)}" for each in regions for node in each.nodes},
        historians={f"{each.name}-history": f"http://{each.host}:{PORTS.historian}" for each in kept},
        archives={each.name: archive_of(topology, each.name) for each in kept},
        sql=databases,
    )


async def gather(
    platform: RunningPlatform,
    asked: Sequence[Asked],
    *,
    samples: Sequence[NodeSaid] = (),
    without: Collection[str] = (),
    settle_s: float = 60.0,
    feeds_after: int = 0,
) -> Evidence:
    """Ask everybody on a running platform. The load should have ended.

    Args:
        platform: that runs.
        asked: what clients noted.
        samples: what nodes said while the load ran (`sampling`).
        without: regions that are away, and nobody expects them back.
        settle_s: how long to wait for those who follow the journal.
        feeds_after: ask for events after this position only: on a platform that had other loads before, that is most
            of the work.

    Raises:
        JournalError: the journal cannot be read: without it there is nothing to judge by.
        ArchiveError: the same, of what the journal itself no longer has.
    """
    places = places_of(platform.topology, without=without)
    return await gather_from(places, asked, samples=samples, settle_s=settle_s, feeds_after=feeds_after)


async def gather_from(
    places: Places,
    asked: Sequence[Asked],
    *,
    samples: Sequence[NodeSaid] = (),
    settle_s: float = 60.0,
    feeds_after: int = 0,
) -> Evidence:
    """Ask everybody who is at some place. Raises as `gather` does."""
    until = await _end_of(places)
    unheard: dict[str, str] = {}
    async with httpx.AsyncClient(trust_env=False, timeout=_TIMEOUT_S) as http:
        deadline = time.monotonic() + settle_s
        await asyncio.gather(
            *(
                _heard(f"historian {name}", unheard, _wait_historian(http, url, until, deadline))
                for name, url in places.historians.items()
            )
        )
        nodes = [
            await _heard(f"node {name}", unheard, ask_accounts(http, name, url, at_least=until))
            for name, url in places.nodes.items()
        ]
        feeds = {}
        for name, url in (*places.nodes.items(), *places.historians.items()):
            is_node = name in places.nodes
            reading = _read_feed(http, url, until, is_node=is_node, after=feeds_after)
            feeds[name] = await _heard(f"feed of {name}", unheard, reading)
    sql = {name: await _heard(name, unheard, asyncio.to_thread(read_sql, url)) for name, url in places.sql.items()}
    archives = {
        name: await _heard(f"archive {name}", unheard, asyncio.to_thread(read_archive, url))
        for name, url in places.archives.items()
    }
    return Evidence(
        asked=asked,
        frames=await read_frames(places),
        until=until,
        nodes=(*samples, *(each for each in nodes if each is not None)),
        feeds={name: each for name, each in feeds.items() if each is not None},
        sql={name: each for name, each in sql.items() if each is not None},
        archives={name: each for name, each in archives.items() if each is not None},
        unheard=unheard,
    )


async def _heard(who: str, unheard: dict[str, str], asking: Awaitable[T]) -> T | None:
    """Return what somebody says; None, and a note, if it is nothing."""
    try:
        return await asking
    except SOMETHING_WRONG as error:
        unheard[who] = str(error) or type(error).__name__
        return None


# --- the journal and the archives


async def _end_of(places: Places) -> int:
    journal = await EtcdJournal.open(EtcdJournalSettings(endpoints=places.journal))
    try:
        return journal.last
    finally:
        await journal.close()


async def read_frames(places: Places) -> list[Frame]:
    """Read the journal, and from the archives what it no longer has. Raises `JournalError`, `ArchiveError`."""
    journal = await EtcdJournal.open(EtcdJournalSettings(endpoints=places.journal))
    try:
        first = journal.first
        frames = await asyncio.to_thread(lambda: list(journal.read(first)))
    finally:
        await journal.close()
    if first > 1:
        before = await asyncio.to_thread(_read_before, list(places.archives.values()), first)
        return [*before, *frames]
    return frames


def _read_before(urls: Sequence[str], first: int) -> list[Frame]:
    archive = Archive([open_store(url, make=False) for url in urls])
    archive.look()
    return list(archive.read(archive.newest_epoch, 1, first - 1))


def read_archive(url: str) -> ArchiveSaid:
    """Read all frames of one archive, in the order of its chain. Raises `ArchiveError`."""
    damaged: list[ObjectDamagedError] = []
    archive = Archive([open_store(url, make=False)], on_damage=damaged.append)
    archive.look()
    digests: dict[int, bytes] = {}
    gap = ""
    try:
        for frame in archive.read(archive.newest_epoch, 1):
            digests[frame.position] = frame.digest
    except MissingFramesError as error:
        gap = str(error)
    if archive.unreachable:
        raise archive.unreachable[0]
    return ArchiveSaid(digests=digests, damaged=(*map(str, damaged), *([gap] if gap else [])))


# --- over HTTP


async def _get(http: httpx.AsyncClient, url: str, query: Mapping[str, str | int], type: type[T]) -> tuple[T, int]:
    """Ask for something; returns it, and the position that the answer shows."""
    response = await http.get(url, params=query)
    if response.status_code != 200:
        raise _WrongAnswerError(f"{url} answers with status {response.status_code}: {response.text[:200]}")
    answer = msgspec.json.decode(response.content, type=type, strict=False)
    return answer, int(response.headers.get("Ledger-Position", 0))


async def _wait_historian(http: httpx.AsyncClient, url: str, until: int, deadline: float) -> None:
    """Wait until a historian has archived and written down everything up to a position."""
    archived, written, why = 0, 0, ""
    while True:
        try:
            said, _ = await _get(http, f"{url}/v1/historian", {}, _Historian)
        except SOMETHING_WRONG as error:
            why = str(error) or type(error).__name__
        else:
            archived = said.stores[0].archived if said.stores else 0
            written = min(said.sql_positions.values(), default=until)
            why = f"it has archived up to {archived} and written up to {written}, and not to {until}"
            if min(archived, written) >= until:
                return
        if time.monotonic() > deadline:
            raise _WrongAnswerError(why)
        await asyncio.sleep(_LOOK_S)


async def ask_accounts(http: httpx.AsyncClient, node: str, url: str, *, at_least: int) -> NodeSaid:
    """Ask a node for all of its accounts at one position, and for the chain over what it has decided.

    Raises one of `SOMETHING_WRONG`.
    """
    said = await _all_accounts(http, node, url, at_least)
    platform, _ = await _get(http, f"{url}/v1/platform", {"at_least": said.position}, _Platform)
    digest = bytes.fromhex(platform.outcomes_digest)
    return replace(said, outcomes=digest, outcomes_position=platform.position)


async def _all_accounts(http: httpx.AsyncClient, node: str, url: str, at_least: int) -> NodeSaid:
    """Ask for pages until all of them show one position."""
    for _ in range(_TRIES):
        pages: list[_Accounts] = []
        positions: set[int] = set()
        query: dict[str, str | int] = {"limit": _PAGE, "at_least": at_least}
        while True:
            page, position = await _get(http, f"{url}/v1/accounts", query, _Accounts)
            pages.append(page)
            positions.add(position)
            if page.next is None or len(positions) > 1:
                break
            query["after"] = page.next
        if len(positions) == 1:
            return _said(node, position, pages)
    raise _WrongAnswerError("its accounts did not stand still for long enough to be read")


async def ask_page(http: httpx.AsyncClient, node: str, url: str) -> NodeSaid:
    """Ask a node once for its accounts, or as many as fit into a page: they are as of one position.

    Raises one of `SOMETHING_WRONG`.
    """
    page, position = await _get(http, f"{url}/v1/accounts", {"limit": _PAGE}, _Accounts)
    return _said(node, position, [page])


def _said(node: str, position: int, pages: Sequence[_Accounts]) -> NodeSaid:
    found = [each for page in pages for each in page.accounts]
    return NodeSaid(
        node=node,
        position=position,
        accounts={each.id: Totals(each.debits, each.credits, each.held_debits, each.held_credits) for each in found},
        is_all=pages[-1].next is None,
        wrong_in_themselves=tuple(each.id for each in found if each.balance != each.credits - each.debits),
    )


async def _read_feed(http: httpx.AsyncClient, url: str, until: int, *, is_node: bool, after: int = 0) -> FeedSaid:
    if is_node:
        platform, _ = await _get(http, f"{url}/v1/platform", {}, _Platform)
        after = max(after, platform.journal_first - 1)
    position, told = after, []
    while position < until:
        page, _ = await _get(http, f"{url}/v1/events", {"after": position, "limit": _PAGE}, _Events)
        told += [_told(event) for event in page.events]
        if page.position <= position:
            break
        position = page.position
    return FeedSaid(position=position, events=told, after=after)


def _told(event: _Event) -> Told:
    data = event.data
    position, _, item = event.id.partition("-")
    if int(position) != data.position:
        raise _WrongAnswerError(f"event {event.id} is about frame {data.position}")
    return Told(
        position=data.position,
        item=int(item),
        id=_id(data.id),
        kind=data.kind,
        outcome=data.outcome,
        hold=_id(data.hold or ""),
        amount=sum(each.amount for each in data.postings),
        is_final=data.final,
        postings=tuple(Posting(each.source, each.destination, each.amount) for each in data.postings),
    )


def _id(text: str) -> bytes:
    return bytes.fromhex(text.replace("-", ""))


# --- SQL


def read_sql(url: str) -> SqlSaid:
    """Read history in SQL, all at one moment.

    Raises:
        SqlHistoryError, sqlalchemy.exc.SQLAlchemyError: there is none, or it cannot be read.
        FileNotFoundError: there is no such file.
    """
    file = make_url(url).database if url.startswith("sqlite") else None
    if file is not None and not Path(file).is_file():
        raise FileNotFoundError(f"there is no {file}")
    engine = open_engine(url)
    try:
        active = next((each for each in projections(engine) if each.status == "active"), None)
        if active is None:
            raise SqlHistoryError(f"{url} holds no history")
        tables = tables_of(active.version)
        with engine.connect() as connection:
            frames = connection.execute(select(tables.frames.c.position)).scalars().all()
            postings = connection.execute(
                select(tables.postings).order_by(*(tables.postings.c[name] for name in ("position", "item", "line")))
            ).all()
            rows = connection.execute(
                select(tables.transactions).order_by(tables.transactions.c.position, tables.transactions.c.item)
            ).all()
            accounts = connection.execute(select(tables.accounts)).all()
            balances = None
            if tables.balances is not None:
                kept = tables.balances
                balances = [
                    (row.position, row.account, _totals(row))
                    for row in connection.execute(select(kept).order_by(kept.c.position, kept.c.account))
                ]
    finally:
        engine.dispose()
    effects: dict[tuple[int, int], list[Effected]] = defaultdict(list)
    for row in postings:
        effected = Effected(row.effect, row.source, row.destination, row.amount)
        effects[row.position, row.item].append(effected)
    return SqlSaid(
        position=max(frames, default=0),
        transactions=[_row(row, effects.get((row.position, row.item), [])) for row in rows],
        accounts={row.id: _totals(row) for row in accounts},
        balances=balances,
    )


def _row(row: Any, effects: list[Effected]) -> Told:
    asked = tuple(Posting(*each[1:]) for each in effects if each.effect in _ASKED)
    return Told(
        position=row.position,
        item=row.item,
        id=row.id,
        kind=row.kind,
        outcome=row.outcome,
        hold=row.hold or b"",
        amount=sum(each.amount for each in asked),
        is_final=row.final is not False,
        postings=asked,
        effects=tuple(sorted(effects)),
    )


def _totals(row: Any) -> Totals:
    return Totals(row.debits, row.credits, row.held_debits, row.held_credits)
