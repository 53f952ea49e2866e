"""`python -m fivenines.drill.history`: history is kept while everything that keeps it is killed, and money moves on.

Three regions, each with a node, a member of etcd, a historian and an archive of its own (`history_place`). Clients post
at a steady rate. Calm and disturbed stretches of time take turns; in each disturbed one a historian, an object store or
the database is killed, and comes back a moment later. Nobody waits for it.

At the end all is stopped. Then each archive alone must give back the ledger: the same state to the digest as the nodes
have, with every acknowledged transaction decided as it was told. History in SQL must hold the same accounts, and each
transaction once; whoever has followed the events all the while, across all kills, must have heard of each once. The
journal must have stayed within its bound, and the memory of members too. How long requests took in calm and in
disturbed stretches is told side by side.
"""

import asyncio
import json
import random
import shutil
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import httpx
import typer
import uvloop
from rich.console import Console
from rich.table import Table
from sqlalchemy import select

from fivenines.api import ItemResult, NewAccount, NewTransaction, Posting
from fivenines.client import AsyncLedger, LedgerError
from fivenines.drill.history_place import HistoryPlace
from fivenines.drill.members import REGION_NAMES
from fivenines.drill.postgres import has_postgres
from fivenines.historian.feed.source import HttpSource, SourceUnavailableError
from fivenines.historian.restoring import Restored, Target, restore
from fivenines.historian.sql import open_engine, projections
from fivenines.historian.sql.schema import tables_of
from fivenines.ids import new_ids
from fivenines.journal.archive import ArchiveError, catalogue_of, open_store
from fivenines.journal.etcd.members import member_status
from fivenines.ledger import Outcome, digest
from fivenines.node import snapshots

__all__ = ["HistoryDrill", "Outcomes", "judge_archive", "judge_sql", "main", "run_drill"]

_ACCOUNTS = 2_000
_ITEMS = 50
_WAIT_S_MAX = 120.0
_MIB = 1024 * 1024
_MEMORY_SLACK_MIB = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryDrill:
    """What to do."""

    seconds: float = 60.0
    stretch_s: float = 5.0
    """How long it is calm, and then disturbed, and so on."""
    requests_per_s: float = 60.0
    """Each of fifty transactions."""
    tail_mib: int = 2
    """What the journal keeps."""
    snapshot_every: int = 25_000
    """After how many commands snapshots are written."""
    seed: int = 1
    folder: Path = Path("build/history")
    disturb: bool = True


@dataclass(slots=True)
class Outcomes:
    """What came of it."""

    answers: dict[bytes, str] = field(default_factory=dict)
    """How each acknowledged transaction was decided."""
    calm_s: list[float] = field(default_factory=list)
    disturbed_s: list[float] = field(default_factory=list)
    """How long each request took, by the kind of stretch that it was sent in."""
    failed: int = 0
    kills: list[str] = field(default_factory=list)
    tail_mib: list[float] = field(default_factory=list)
    members_mib: list[float] = field(default_factory=list)
    database_mib: list[float] = field(default_factory=list)
    position: int = 0
    digest: bytes = b""
    archives: dict[str, Restored] = field(default_factory=dict)
    segments: dict[str, int] = field(default_factory=dict)
    snapshots: dict[str, int] = field(default_factory=dict)
    lost: int = 0
    otherwise: int = 0
    """Acknowledged transactions that a restored ledger has not, or has decided otherwise."""
    sql: dict[str, int] = field(default_factory=dict)
    """How many transactions each history in SQL holds."""
    heard: list[tuple[int, bytes]] = field(default_factory=list)
    """The position and the transaction of each event, as a follower of one historian heard them."""
    heard_position: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def is_good(self) -> bool:
        """Whether every promise was kept."""
        return not (self.problems or self.failed or self.lost or self.otherwise)

    def facts(self) -> dict[str, Any]:
        """As one object of plain values."""
        return {
            "good": self.is_good,
            "acknowledged": len(self.answers),
            "failed_requests": self.failed,
            "lost": self.lost,
            "decided_otherwise": self.otherwise,
            "kills": self.kills,
            "calm_p50_ms": _quantile_ms(self.calm_s, 0.5),
            "calm_p99_ms": _quantile_ms(self.calm_s, 0.99),
            "disturbed_p50_ms": _quantile_ms(self.disturbed_s, 0.5),
            "disturbed_p99_ms": _quantile_ms(self.disturbed_s, 0.99),
            "tail_mib_max": round(max(self.tail_mib, default=0.0), 1),
            "member_mib_by_quarter": [round(each) for each in _by_quarter(self.members_mib)],
            "member_mib_max": round(max(self.members_mib, default=0.0)),
            "database_mib_max": round(max(self.database_mib, default=0.0)),
            "position": self.position,
            "archives": {
                name: {
                    "position": each.state.position,
                    "equal": each.state_digest == self.digest,
                    "segments": self.segments[name],
                    "snapshots": self.snapshots[name],
                    "snapshots_compared": len(each.compared),
                }
                for name, each in self.archives.items()
            },
            "sql": self.sql,
            "events_heard": len(self.heard),
            "problems": self.problems,
        }


def _by_quarter(values: Sequence[float]) -> list[float]:
    size = max(1, -(-len(values) // 4))
    return [max(values[begin : begin + size]) for begin in range(0, len(values), size)]


def _quantile_ms(times_s: Sequence[float], share: float) -> float:
    ranked = sorted(times_s)
    return round(ranked[min(len(ranked) - 1, int(len(ranked) * share))] * 1e3, 1) if ranked else 0.0


async def run_drill(drill: HistoryDrill, *, told: Any = lambda _text: None) -> Outcomes:
    """Carry out a drill.

    Raises:
        LedgerFailedError: something did not start, or ended by itself.
    """
    shutil.rmtree(drill.folder, ignore_errors=True)
    drill.folder.mkdir(parents=True)
    place, done = _place(drill), Outcomes()
    try:
        await place.start()
        told(f"three regions serve {', '.join(place.urls)}")
        await _open_accounts(place.urls[0])
        disturbed = asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            watching = tasks.create_task(_watch(place, done))
            following = tasks.create_task(_follow(place, done))
            disturbing = tasks.create_task(_disturb(place, drill, done, disturbed, told))
            await _post_all(place.urls, drill, done, disturbed)
            await disturbing
            watching.cancel()
            told("everything is posted; waiting until everything is archived")
            await _settle(place, done)
            following.cancel()
        await asyncio.gather(*(each.stop() for each in place.historians))
        await asyncio.gather(*(each.stop() for each in place.nodes))
        found_digests = {_node_digest(node.data) for node in place.nodes}
        if len(found_digests) > 1:
            done.problems.append("the nodes ended in different states")
        done.digest = min(found_digests)
        place.cluster.kill()
        told("restoring from each archive alone, and holding history in SQL against it")
        for url in place.archives:
            await asyncio.to_thread(judge_archive, url, drill.folder, done)
        for url in place.databases:
            await asyncio.to_thread(judge_sql, url, done)
    finally:
        await place.discard()
    _judge(drill, done)
    return done


def _place(drill: HistoryDrill) -> HistoryPlace:
    return HistoryPlace(
        drill.folder, tail_mib=drill.tail_mib, snapshot_every=drill.snapshot_every, with_postgres=has_postgres()
    )


async def _open_accounts(url: str) -> None:
    async with AsyncLedger(url) as ledger:
        await ledger.create_asset("EUR/2")
        await ledger.open_accounts([NewAccount(f"a:{n}", "EUR/2", min_balance=None) for n in range(_ACCOUNTS)])


async def _post_all(urls: Sequence[str], drill: HistoryDrill, done: Outcomes, disturbed: asyncio.Event) -> None:
    """Post at a steady rate, whatever comes of it, through clients that take turns."""
    chance = random.Random(drill.seed)
    loop = asyncio.get_running_loop()
    async with AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        ledgers = [
            await stack.enter_async_context(AsyncLedger(*urls[n:], *urls[:n], deadline_s=30.0))
            for n in range(len(urls))
        ]
        began = loop.time()
        for number in range(int(drill.seconds * drill.requests_per_s)):
            await asyncio.sleep(max(0.0, began + number / drill.requests_per_s - loop.time()))
            tasks.create_task(_post(ledgers[number % len(ledgers)], _some(chance), done, disturbed))


async def _post(
    ledger: AsyncLedger, transactions: list[NewTransaction], done: Outcomes, disturbed: asyncio.Event
) -> None:
    times = done.disturbed_s if disturbed.is_set() else done.calm_s
    began = time.perf_counter()
    try:
        results: Sequence[ItemResult] = await ledger.submit(transactions)
    except LedgerError as error:
        done.failed += 1
        done.problems.append(f"a request failed: {error}")
        return
    times.append(time.perf_counter() - began)
    for each in results:
        done.answers[bytes.fromhex(each.id.replace("-", ""))] = each.outcome


def _some(chance: random.Random) -> list[NewTransaction]:
    found = []
    for id in new_ids(_ITEMS):
        source, destination = chance.sample(range(_ACCOUNTS), 2)
        posting = Posting(f"a:{source}", f"a:{destination}", chance.randint(1, 10_000))
        found.append(NewTransaction(id=id, postings=[posting]))
    return found


async def _disturb(
    place: HistoryPlace, drill: HistoryDrill, done: Outcomes, disturbed: asyncio.Event, told: Any
) -> None:
    """Kill a historian or a store in every second stretch, and bring it back."""
    chance = random.Random(drill.seed)
    ends = asyncio.get_running_loop().time() + drill.seconds
    while asyncio.get_running_loop().time() + 2 * drill.stretch_s <= ends:
        await asyncio.sleep(drill.stretch_s)
        disturbed.set()
        away_s = chance.uniform(0.2, 0.6) * drill.stretch_s
        if drill.disturb and chance.random() < 0.6:
            historian = chance.choice(place.historians)
            number = place.historians.index(historian)
            historian.kill()
            await historian.wait()
            done.kills.append(f"historian of {REGION_NAMES[number]}")
            told(f"SIGKILL: {done.kills[-1]}, away for {away_s:.1f} s")
            await asyncio.sleep(away_s)
            place.historian_urls[number] = (await historian.start()).url
        elif drill.disturb and place.postgres is not None and chance.random() < 0.5:
            await asyncio.to_thread(place.postgres.kill)
            done.kills.append("the database")
            told(f"killed: {done.kills[-1]}, away for {away_s:.1f} s")
            await asyncio.sleep(away_s)
            await asyncio.to_thread(place.postgres.start)
        elif drill.disturb:
            number = chance.randrange(len(place.servers))
            place.servers[number].kill()
            done.kills.append(f"object store of {REGION_NAMES[number]}")
            told(f"SIGKILL: {done.kills[-1]}, away for {away_s:.1f} s")
            await asyncio.sleep(away_s)
            await asyncio.to_thread(place.servers[number].start)
            away_s += 1.0
        await asyncio.sleep(max(0.0, drill.stretch_s - away_s))
        disturbed.clear()


async def _watch(place: HistoryPlace, done: Outcomes) -> None:
    """Look at the journal and its members once a second."""
    async with httpx.AsyncClient(trust_env=False) as http:
        while True:
            await asyncio.sleep(1.0)
            for member in place.cluster.members:
                done.members_mib.append(member.memory_bytes() / _MIB)
                status = await asyncio.to_thread(member_status, member.endpoint)
                if status is not None:
                    done.database_mib.append(status.db_size_in_use / _MIB)
            try:
                text = (await http.get(f"{place.urls[0]}/metrics", timeout=2.0)).text
            except httpx.HTTPError:
                continue
            found = [line for line in text.splitlines() if line.startswith("fivenines_journal_tail_bytes ")]
            done.tail_mib += [float(line.rpartition(" ")[2]) / _MIB for line in found]


async def _follow(place: HistoryPlace, done: Outcomes) -> None:
    """Follow the events of the first historian, from the beginning on, whatever happens to it."""
    source = HttpSource(place.historian_urls[0])
    position = 0
    try:
        while True:
            try:
                await source.wait(position, 1.0)
                events, position = await source.after(position, 1_000)
            except SourceUnavailableError:
                await asyncio.sleep(0.2)
                continue
            done.heard += [(event.data.position, bytes.fromhex(event.subject.replace("-", ""))) for event in events]
            done.heard_position = position
    finally:
        await source.close()


async def _settle(place: HistoryPlace, done: Outcomes) -> None:
    """Wait until each archive has everything."""
    async with httpx.AsyncClient(trust_env=False) as http:
        last = (await http.get(f"{place.urls[0]}/v1/platform")).json()["position"]
        done.position = last
        until = time.monotonic() + _WAIT_S_MAX
        for number, url in enumerate(place.historian_urls):
            while True:
                try:
                    status = (await http.get(f"{url}/v1/historian", timeout=5.0)).json()
                except httpx.HTTPError as error:
                    status = {"problem": str(error), "stores": []}
                is_archived = bool(status["stores"]) and status["stores"][0]["archived"] >= last
                is_projected = min(status.get("sql_positions", {}).values(), default=0) >= last
                is_heard = number > 0 or done.heard_position >= last
                if is_archived and is_projected and is_heard and status["spool_bytes"] == 0:
                    break
                if time.monotonic() > until:
                    done.problems.append(f"the archive of {REGION_NAMES[number]} did not catch up: {status}")
                    break
                await asyncio.sleep(0.2)


def _node_digest(folder: Path) -> bytes:
    """Return the digest of the state that a node stopped with: it writes a snapshot then."""
    return digest(snapshots.load(snapshots.paths(folder)[0]).state)


def judge_archive(url: str, folder: Path, done: Outcomes) -> None:
    """Restore from one archive alone, and hold it against what was told."""
    store = open_store(url)
    try:
        restored = restore([store], Target(), folder)
        listed = catalogue_of(store)
    except ArchiveError as error:
        done.problems.append(str(error))
        return
    done.archives[store.name] = restored
    done.segments[store.name], done.snapshots[store.name] = len(listed.segments), len(listed.snapshots)
    state = restored.state
    for id, outcome in done.answers.items():
        known = state.decision(id)
        if known is None:
            done.lost += 1
        elif Outcome(known.outcome).name != outcome:
            done.otherwise += 1


def judge_sql(url: str, done: Outcomes) -> None:
    """Hold a history in SQL against what was told, and against a restored ledger."""
    name = url.partition(":")[0] + ":" + url.partition("?")[0].rpartition("/")[2]
    state = next(iter(done.archives.values())).state
    engine = open_engine(url)
    try:
        active = next(each for each in projections(engine) if each.status == "active")
        tables = tables_of(active.version)
        with engine.connect() as connection:
            rows = connection.execute(select(tables.transactions.c.id, tables.transactions.c.outcome)).all()
            accounts = connection.execute(select(tables.accounts)).all()
    finally:
        engine.dispose()
    decided = {row.id: row.outcome for row in rows}
    done.sql[name] = len(rows)
    if active.position != done.position:
        done.problems.append(f"{name} is at position {active.position}, the journal ends at {done.position}")
    if len(decided) != len(rows):
        done.problems.append(f"{name} holds {len(rows) - len(decided)} transactions twice")
    done.lost += sum(id not in decided for id in done.answers)
    done.otherwise += sum(decided.get(id, outcome) != outcome for id, outcome in done.answers.items())
    held = {row.id: (row.debits, row.credits, row.held_debits, row.held_credits) for row in accounts}
    if held != {
        each.id: (each.debits, each.credits, each.held_debits, each.held_credits) for each in state.accounts.values()
    }:
        done.problems.append(f"{name} holds other accounts than the ledger")


def _judge(drill: HistoryDrill, done: Outcomes) -> None:
    problems = done.problems
    if not done.answers:
        problems.append("nothing was acknowledged")
    if drill.disturb and not done.kills:
        problems.append("nothing was killed")
    for name, restored in done.archives.items():
        if restored.state.position != done.position:
            problems.append(f"{name} ends at position {restored.state.position}, the journal at {done.position}")
        if restored.state_digest != done.digest:
            problems.append(f"{name} gives back another state than the nodes have")
        if not (done.segments[name] and done.snapshots[name] and restored.frames):
            problems.append(f"{name} has {done.segments[name]} segments and {done.snapshots[name]} snapshots")
    quarter = len(done.members_mib) // 4
    before, after = done.members_mib[quarter : 2 * quarter], done.members_mib[3 * quarter :]
    if quarter and max(after) > 1.25 * max(before) + _MEMORY_SLACK_MIB:
        problems.append(f"members grew from {max(before):.0f} to {max(after):.0f} MiB")
    heard = {id for _, id in done.heard}
    if heard != done.answers.keys() or len(heard) != len(done.heard):
        problems.append(
            f"the follower heard {len(done.heard)} events of {len(heard)} transactions, {len(done.answers)} were "
            "acknowledged"
        )
    if any(before[0] > after[0] for before, after in pairwise(done.heard)):
        problems.append("the follower heard events out of order")
    if (tail := max(done.tail_mib, default=0.0)) > 2 * drill.tail_mib:
        problems.append(f"the journal kept {tail:.0f} MiB, and was to keep {drill.tail_mib}")


def show(done: Outcomes, console: Console) -> None:
    """Print what came of it."""
    facts = done.facts()
    table = Table("", "calm", "disturbed", title="How long requests took")
    for share in ("p50", "p99"):
        table.add_row(share, f"{facts[f'calm_{share}_ms']} ms", f"{facts[f'disturbed_{share}_ms']} ms")
    table.add_row("requests", f"{len(done.calm_s):,}", f"{len(done.disturbed_s):,}")
    console.print(table)
    table = Table("archive", "position", "equal", "segments", "snapshots")
    for name, each in facts["archives"].items():
        mark = "yes" if each["equal"] else "NO"
        table.add_row(name, f"{each['position']:,}", mark, str(each["segments"]), str(each["snapshots"]))
    console.print(table)
    console.print(f"{len(done.heard):,} events heard by a follower of one historian")
    for name, count in done.sql.items():
        console.print(f"{name}: {count:,} transactions in SQL", markup=False)
    console.print(
        f"{len(done.answers):,} transactions acknowledged, {done.lost} lost, {done.otherwise} decided otherwise, "
        f"{done.failed} requests failed; {len(done.kills)} kills; the journal kept {facts['tail_mib_max']} MiB at "
        f"most, a member {facts['member_mib_max']} MiB"
    )
    for problem in done.problems[:20]:
        console.print(f"✗ {problem}", style="bold red", markup=False)


def main(
    minutes: Annotated[float, typer.Option(help="How long.", min=0.2)] = 10.0,
    requests: Annotated[float, typer.Option(help="Requests a second, each of fifty transactions.")] = 60.0,
    tail: Annotated[int, typer.Option(metavar="MIB", help="What the journal keeps.", min=1)] = 16,
    seed: Annotated[int, typer.Option(help="What the kills are made from.")] = 1,
    out: Annotated[Path, typer.Option(help="The folder for history.json and, meanwhile, the data.")] = Path("build"),
) -> None:
    """Keep history under load while what keeps it is killed; exit status 1 if anything is wrong."""
    console = Console(highlight=False)
    began = time.monotonic()
    drill = HistoryDrill(
        seconds=minutes * 60, requests_per_s=requests, tail_mib=tail, seed=seed, folder=out / "history"
    )
    done = uvloop.run(
        run_drill(drill, told=lambda text: console.print(f"{time.monotonic() - began:7.1f} s  {text}", markup=False))
    )
    (out / "history.json").write_text(json.dumps(done.facts(), indent=2) + "\n")
    show(done, console)
    if done.is_good:
        shutil.rmtree(drill.folder, ignore_errors=True)
    raise typer.Exit(0 if done.is_good else 1)


if __name__ == "__main__":
    typer.run(main)
