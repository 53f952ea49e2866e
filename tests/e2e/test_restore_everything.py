"""Every region is lost: the platform is rebuilt from object storage alone, and goes on in a new epoch."""

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from fivenines.api import NewAccount, NewTransaction, Posting
from fivenines.client import AsyncLedger, UnavailableError
from fivenines.drill.history_place import HistoryPlace
from fivenines.drill.members import make_cluster
from fivenines.drill.supervise import LedgerFailedError, LedgerProcess
from fivenines.node import snapshots
from tests.integration.etcd.clusters import need_etcd

pytestmark = pytest.mark.alone

ACCOUNTS = 50


def fivenines(*arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "fivenines", *arguments, "--json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def archives(place: HistoryPlace) -> list[str]:
    return [option for url in place.archives for option in ("--archive", url)]


async def post(url: str, count: int) -> dict[str, str]:
    """Post so many requests of twenty, and return how each transaction was decided."""
    answers: dict[str, str] = {}
    async with AsyncLedger(url, deadline_s=20.0) as ledger:
        for number in range(count):
            some = [
                NewTransaction(postings=[Posting(f"a:{n % ACCOUNTS}", f"a:{(n + number + 1) % ACCOUNTS}", n + 1)])
                for n in range(20)
                if n % ACCOUNTS != (n + number + 1) % ACCOUNTS
            ]
            answers.update({each.id: each.outcome for each in await ledger.submit(some)})
    return answers


async def books(url: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a node says of itself that must stay the same, and all accounts."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        platform = (await http.get("/v1/platform")).json()
        accounts = (await http.get("/v1/accounts?limit=1000")).json()["accounts"]
    kept = {name: platform[name] for name in ("position", "outcomes_digest", "accounts", "holds_open", "time")}
    return kept, {each["id"]: each for each in accounts}


async def archived(place: HistoryPlace, position: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        for url in place.historian_urls:
            while True:
                status = (await http.get(f"{url}/v1/historian")).json()
                if status["stores"] and status["stores"][0]["archived"] >= position and not status["spool_bytes"]:
                    break
                await asyncio.sleep(0.1)


async def lose_everything(place: HistoryPlace) -> None:
    """Every process, and every disk but those of the object stores."""
    await asyncio.gather(*(each.discard() for each in (*place.nodes, *place.historians)))
    place.cluster.kill()
    for process in (*place.nodes, *place.historians):
        shutil.rmtree(process.data)
    for member in place.cluster.members:
        shutil.rmtree(member.directory)


def test_after_losing_every_region_all_that_was_archived_is_back(tmp_path: Path) -> None:
    need_etcd()
    before, after = asyncio.run(lose_and_restore(tmp_path))
    assert 0 < before < after


async def lose_and_restore(tmp_path: Path) -> tuple[int, int]:
    """Return the positions at the loss and at the end of the new life."""
    place = HistoryPlace(tmp_path / "old", snapshot_every=400)
    reborn: HistoryPlace | None = None
    try:
        await place.start()
        async with AsyncLedger(place.urls[0]) as ledger:
            await ledger.create_asset("EUR/2")
            await ledger.open_accounts([NewAccount(f"a:{n}", "EUR/2", min_balance=None) for n in range(ACCOUNTS)])
        answers = await post(place.urls[0], 20)
        middle, middle_accounts = await books(place.urls[0])
        await asyncio.sleep(1.1)  # so that a time lies between
        answers |= await post(place.urls[0], 20)
        before, accounts = await books(place.urls[0])
        await archived(place, before["position"])
        await lose_everything(place)

        # To a position, and to a time, each into a folder of its own.
        to_position = fivenines(
            *("restore", "--to-position", str(middle["position"]), "--data", str(tmp_path / "position")),
            *archives(place),
        )
        to_time = fivenines("restore", "--to-time", middle["time"], "--data", str(tmp_path / "time"), *archives(place))
        assert to_position["position"] == to_time["position"] == middle["position"]
        assert to_position["digest"] == to_time["digest"]
        assert len({(await served(tmp_path / name))[0]["outcomes_digest"] for name in ("position", "time")}) == 1
        assert await served(tmp_path / "time") == (middle, middle_accounts)

        # All of it, into a new etcd, for three new nodes and historians.
        reborn = HistoryPlace(tmp_path / "new", snapshot_every=400, archives_of=place)
        reborn.cluster.start()
        await asyncio.to_thread(reborn.cluster.wait_ready)
        restored = fivenines(
            *("restore", "--latest", "--data", str(reborn.nodes[1].data), *archives(place)),
            *("--journal", "etcd://" + ",".join(reborn.cluster.endpoints)),
        )
        assert (restored["position"], restored["new_epoch"]) == (before["position"], 2)
        assert restored["snapshots_compared"] != []
        kept = snapshots.load(snapshots.paths(reborn.nodes[1].data)[0])
        assert kept.state_digest.hex() == restored["digest"]
        await reborn.start_on_founded()
        for url in reborn.urls:  # two of the nodes had nothing but their peer's snapshot
            assert await books(url) == (before, accounts)
        await check_answers(reborn.urls[2], answers)

        # It goes on: what is posted now is archived in the new epoch, and can be restored with all that was before.
        more = await post(reborn.urls[0], 10)
        after, accounts = await books(reborn.urls[0])
        assert after["position"] > before["position"]
        await archived(reborn, after["position"])
        backup = fivenines("verify-backup", "--scratch", str(tmp_path), *archives(place))
        assert (backup["epoch"], backup["position"], backup["begun_at"]) == (2, after["position"], 0)
        await check_answers(reborn.urls[1], answers | more)
        old = fivenines("restore", "--latest", "--epoch", "1", "--data", str(tmp_path / "old-life"), *archives(place))
        assert (old["position"], old["digest"]) == (restored["position"], restored["digest"])
        return before["position"], after["position"]
    finally:
        if reborn is not None:
            await reborn.discard()
        await place.discard()


async def served(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    process = LedgerProcess(folder, log=folder.with_suffix(".log"))
    try:
        ready = await process.start()
        return await books(ready.url)
    finally:
        await process.discard()


async def check_answers(url: str, answers: dict[str, str]) -> None:
    """Send nothing again, and ask for everything."""
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        for id, outcome in list(answers.items())[:: max(1, len(answers) // 40)]:
            found = (await http.get(f"/v1/transactions/{id}")).json()
            said = found.get("outcome") or found["detail"]
            assert outcome in said, found


def test_what_still_runs_of_an_old_life_cannot_write_into_the_new_one_nor_the_other_way_round(tmp_path: Path) -> None:
    need_etcd()
    said = asyncio.run(fence_and_restore(tmp_path))
    assert "was taken from another journal" in said


async def fence_and_restore(tmp_path: Path) -> str:
    """Return what a node of the old life said on the new journal."""
    place = HistoryPlace(tmp_path / "old", snapshot_every=400)
    cluster = make_cluster(tmp_path / "new" / "etcd", members=1)
    journal = "etcd://" + ",".join(cluster.endpoints)
    new = LedgerProcess(
        tmp_path / "new" / "n1",
        log=tmp_path / "new.log",
        options=("--journal", journal, "--region", "here", "--name", "n1"),
    )
    astray = LedgerProcess(
        place.nodes[2].data,
        log=tmp_path / "astray.log",
        options=("--journal", journal, "--region", "us-east", "--name", "us-east-1"),
        start_s_max=15.0,
    )
    try:
        await place.start()
        async with AsyncLedger(place.urls[0]) as ledger:
            await ledger.create_asset("EUR/2")
            await ledger.open_accounts([NewAccount(f"a:{n}", "EUR/2", min_balance=None) for n in range(ACCOUNTS)])
        await post(place.urls[0], 5)
        middle, _ = await books(place.urls[0])
        await post(place.urls[0], 40)
        before, _ = await books(place.urls[0])
        await archived(place, before["position"])

        cluster.start()
        await asyncio.to_thread(cluster.wait_ready)
        restored = fivenines(
            *("restore", "--to-position", str(middle["position"]), "--data", str(new.data), *archives(place)),
            *("--journal", journal, "--fence", "etcd://" + ",".join(place.cluster.endpoints)),
        )
        assert (restored["position"], restored["new_epoch"]) == (middle["position"], 2)
        ready = await new.start()

        # The old life is fenced: its nodes are all there, and none of them takes a write any more.
        async with AsyncLedger(*place.urls, deadline_s=2.0) as ledger:
            with pytest.raises(UnavailableError):
                await ledger.post(source="a:1", destination="a:2", amount=1)
        # The new life goes on, past where the old one was.
        await post(ready.url, 50)
        state, _ = await books(ready.url)
        assert state["position"] > before["position"]

        # A node of the old life on the new journal: what it holds is another journal's, and it says so.
        await place.nodes[2].stop()
        assert snapshots.position_of(snapshots.paths(astray.data)[0]) > middle["position"]
        with pytest.raises(LedgerFailedError):
            await astray.start()
        return (tmp_path / "astray.log").read_text()
    finally:
        await new.discard()
        await astray.discard()
        cluster.kill()
        await place.discard()
