"""All regions are lost: every process and every disk but those of the archives, and the ledger is built again.

The clients end first, and are judged while there is somebody to ask. Then everything ends at once, and all folders but
the archives are taken away. `fivenines restore` builds the ledger from what is left, a process serves it, and it is
asked for every transaction that was ever acknowledged, by sending it once more.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import msgspec

from fivenines.client import AsyncLedger
from fivenines.drill.drills.scene import SERVED_AFTER, FaultGone, Scene
from fivenines.drill.faults.errors import FaultImpossibleError
from fivenines.drill.load.asked import Asked
from fivenines.drill.load.asking import ask
from fivenines.drill.supervise import LedgerProcess
from fivenines.drill.witness import Witness
from fivenines.platform.local.programs import archive_of
from fivenines.platform.topology import PORTS

__all__ = ["lose_everything_and_restore"]

_ARCHIVE_S_MAX = 60.0
_LOOK_S = 0.2


async def lose_everything_and_restore(scene: Scene) -> dict[str, Any]:
    """Lose all regions, restore from their archives, and say what of the acknowledged is missing.

    Returns `acknowledged`, `missing`, `wrong_sums` (assets whose balances do not come to nothing), and in seconds
    `restore_s`, and `served_after_s` from the loss.
    """
    if scene.end_load is None:
        raise FaultImpossibleError("loss of all regions", "the platform is somebody else's")
    await scene.end_load()
    topology = scene.platform.topology
    archives = [archive_of(topology, place.name) for place in topology.regions if place.nodes]
    done = [each for each in scene.load.asked if each.id and each.position and not each.error]
    await _archived(scene, max((each.position for each in done), default=0))
    scene.note("fault", "all regions are lost", target="every process, and every disk but the archives")
    began = time.monotonic()
    os.kill(scene.platform.pid, signal.SIGKILL)  # everything dies with it
    await scene.platform.discard()
    await asyncio.to_thread(_forget, topology.path, archives)
    scene.note("decided", "restore from the archives")
    restored = topology.path / "restored"
    options = [word for url in archives for word in ("--archive", url)]
    await _fivenines("restore", "--latest", "--data", str(restored), *options)
    restore_s = time.monotonic() - began
    ledger = LedgerProcess(restored, log=topology.path / "restored.log", name="the restored ledger")
    try:
        ready = await ledger.start()
        scene.note("done", "the restored ledger serves", target=f"position {ready.position:,}")
        served_s = time.monotonic() - began
        wrong = await asyncio.to_thread(_wrong_sums, ready.url)
        missing = await _missing(ready.url, done)
        facts = {"restore_s": round(restore_s, 2), SERVED_AFTER: round(served_s, 2)}
        target = "every process, and every disk but the archives"
        scene.gone.append(
            FaultGone(
                name="all regions lost",
                fault="all regions lost",
                target=target,
                began=began,
                ended=began + served_s,
                facts=facts,
            )
        )
        scene.note("recovered", "whole: every acknowledged transaction was looked for")
        await ledger.stop()
    finally:
        await ledger.discard()
    return {"acknowledged": len(done), "missing": missing, "wrong_sums": wrong, **facts}


async def _archived(scene: Scene, position: int) -> None:
    """Wait until every historian has archived so far: what is acknowledged and not archived is not promised."""
    until = time.monotonic() + _ARCHIVE_S_MAX
    async with httpx.AsyncClient(trust_env=False, timeout=5.0) as http:
        for place in scene.platform.topology.regions:
            while place.nodes:
                with contextlib.suppress(httpx.HTTPError, msgspec.MsgspecError, LookupError):
                    answer = await http.get(f"http://{place.host}:{PORTS.historian}/v1/historian")
                    if msgspec.json.decode(answer.content)["stores"][0]["archived"] >= position:
                        break
                if time.monotonic() > until:
                    raise TimeoutError(f"{place.name} has not archived position {position} within {_ARCHIVE_S_MAX:g} s")
                await asyncio.sleep(_LOOK_S)


def _forget(folder: Path, archives: list[str]) -> None:
    """Take all disks away but those of the archives, and what tells of the platform."""
    kept = {Path(url).resolve() for url in archives if "://" not in url}
    for region in folder.iterdir():
        if region.is_dir() and region.name not in {"drills", "faults"}:
            for part in region.iterdir():
                if part.resolve() not in kept and not any(part.resolve() in each.parents for each in kept):
                    shutil.rmtree(part) if part.is_dir() else part.unlink()


async def _fivenines(*words: str) -> None:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "fivenines", *words, "--json", stdout=pipe, stderr=pipe
    )
    _, said = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"'fivenines {words[0]}' ended with {process.returncode}: {said.decode()[-500:]}")


async def _missing(url: str, done: Sequence[Asked]) -> int:
    """Send everything once more: what is known gets the answer that it got, at the position that it had.

    Something that was forgotten would be decided anew, at a position of its own. In the order in which it was decided,
    so that a settlement finds its hold even then.
    """
    missing = 0
    async with AsyncLedger(url, deadline_s=30.0) as ledger:
        for each in sorted(done, key=lambda asked: asked.position):
            again = msgspec.structs.replace(each, outcome="", position=0, error="")
            await ask(ledger, again)
            missing += (again.outcome, again.position) != (each.outcome, each.position)
    return missing


def _wrong_sums(url: str) -> int:
    sums: dict[str, int] = {}
    with Witness(url) as witness:
        for totals in witness.accounts()[0].values():
            sums[totals.asset] = sums.get(totals.asset, 0) + totals.balance
    return sum(1 for total in sums.values() if total)
