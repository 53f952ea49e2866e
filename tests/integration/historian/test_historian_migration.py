"""History in SQL moves to a new version within a running historian, under load; queries never fail, and go back too."""

import asyncio
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx

from fivenines.client import AsyncLedger
from tests.integration.historian.test_historian_alone import ACCOUNTS, archived, place_of, status_when


def history(*arguments: str, sql: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "fivenines", "history", *arguments, "--sql", sql, "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_a_new_version_is_built_beside_the_old_compared_switched_to_and_back_under_load(tmp_path: Path) -> None:
    asked, refused = asyncio.run(migrate(tmp_path))
    assert asked > 200
    assert refused == []


async def migrate(tmp_path: Path) -> tuple[int, list[str]]:
    """Return how many queries were answered, and what was wrong with any."""
    sql = f"sqlite:///{tmp_path / 'history.db'}"
    async with place_of(tmp_path) as place:
        assert await asyncio.to_thread(history, "build", "1", sql=sql) == {
            "version": 1,
            "status": "active",
            "position": 0,
        }
        historian = place.historian("history", str(tmp_path / "archive"), sql=sql)
        url = (await historian.start()).url
        await status_when(url, archived(await place.post(50)))
        ended = asyncio.Event()
        posting = asyncio.create_task(post_until(place.url, ended))
        asking = asyncio.create_task(ask_until(url, ended))
        try:
            await asyncio.to_thread(history, "build", "2", sql=sql)
            await status_when(
                url,
                lambda status: (
                    set(status["sql_positions"]) == {"1", "2"}
                    and status["sql_positions"]["2"] >= status["sql_positions"]["1"] - 3
                ),
            )
            compared = await asyncio.to_thread(history, "compare", "1", "2", sql=sql)
            assert compared["equal"]
            assert compared["differences"] == []
            assert (compared["accounts"], compared["position"] > 50) == (ACCOUNTS, True)
            for version in ("2", "1", "2"):
                await switch(version, sql)
                await asyncio.sleep(1.0)
        finally:
            ended.set()
        position = await posting
        asked, refused = await asking
        await status_when(url, lambda status: min(status["sql_positions"].values()) >= position)
        # Both went on to the end, and say the same of it.
        assert (await asyncio.to_thread(history, "compare", "1", "2", sql=sql))["position"] == position
        found = await asyncio.to_thread(history, "versions", sql=sql)
        assert {each["version"]: each["status"] for each in found["versions"]} == {1: "ready", 2: "active"}
        await asyncio.to_thread(history, "retire", "1", sql=sql)
        await status_when(url, lambda status: set(status["sql_positions"]) == {"2"})
        await status_when(url, archived(await place.post(5)))
        await historian.stop()
    return asked, refused


async def switch(version: str, sql: str) -> None:
    """Switch; a version that is a frame behind the other at that moment is switched to at the next."""
    said = ""
    for _ in range(50):
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "fivenines", "history", "switch", version, "--sql", sql],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 0:
            return
        said = done.stderr
        assert "behind the active" in said, said
    raise AssertionError(said)


async def post_until(url: str, ended: asyncio.Event) -> int:
    async with AsyncLedger(url, deadline_s=20.0) as ledger:
        while not ended.is_set():
            await ledger.post(source="a:1", destination="a:2", amount=1)
            await asyncio.sleep(0.01)
        return ledger.position


async def ask_until(url: str, ended: asyncio.Event) -> tuple[int, list[str]]:
    """Ask for the same things again and again; what is answered must fit together, and never go back."""
    asked, wrong = 0, []
    balance = position = 0
    async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=30.0) as http:
        while not ended.is_set():
            now = await http.get("/v1/accounts/a:2/balance")
            page = await http.get("/v1/accounts/a:2/history?limit=5")
            asked += 2
            if (now.status_code, page.status_code) != (200, 200):
                wrong.append(now.text + page.text)
                continue
            found = now.json()
            at = int(now.headers["Ledger-Position"])
            if position and (at < position or found["balance"] < balance):
                wrong.append(f"from position {position} back to {at}, from {balance} to {found['balance']}")
            then = await http.get(f"/v1/accounts/a:2/balance?position={position}")
            if position and then.json()["balance"] != balance:
                wrong.append(f"at position {position} there were {balance}, and now {then.text}")
            balance, position = found["balance"], at
            if len(page.json()["transactions"]) != 5:
                wrong.append(page.text)
    return asked, wrong
