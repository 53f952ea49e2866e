"""What a drill says of guarantees, and that nothing that watches it can keep harm from being seen."""

import asyncio
from typing import Any, cast

import pytest

from fivenines.drill.drills import runner
from fivenines.drill.drills.choosing import catalogue
from fivenines.drill.drills.judging import Judged
from fivenines.drill.drills.runner import Terms
from fivenines.drill.reporting.summary import summarize
from fivenines.drill.results import BY_SOMEBODY, DrillResult, Guarantee, GuaranteeVerdict, Verdict

DRILLS = {each.name: each for each in catalogue()}
CHECKED: tuple[Guarantee, ...] = ("acknowledged is durable", "exactly once", "overload is shed", "corruption is found")


def said_of(drill: str, *, verdict: Verdict = "passed", broken: str = "") -> dict[Guarantee, bool]:
    """What a drill says is kept, when the checker finds one of its guarantees broken, or none."""
    judged = Judged(
        guarantees=tuple(GuaranteeVerdict(guarantee=each, is_kept=each != broken, why="seen") for each in CHECKED)
    )
    reasons = [] if verdict == "passed" else ["a probe did not hold"]
    found = runner._guarantees(DRILLS[drill], judged, verdict, reasons, 100)
    assert len({each.guarantee for each in found}) == len(found)
    result = DrillResult(name=drill, title="", verdict=verdict, guarantees=found)
    kept = {each.guarantee: each.is_kept for each in found}
    for row in summarize([result]).guarantees:
        assert row.state == {None: "not tested", True: "kept", False: "broken"}[kept.get(row.guarantee)]
    return kept


def test_a_drill_whose_hypothesis_did_not_hold_keeps_nothing_that_it_is_about() -> None:
    kept = said_of("snapshot-corrupt", verdict="failed")
    assert not kept["corruption is found"]
    assert kept["exactly once"], "which it is not about, and which the checker saw to be kept"


def test_a_drill_without_overload_or_damage_says_nothing_of_them() -> None:
    kept = said_of("node-killed")
    assert set(kept) == {"node lost", "acknowledged is durable", "exactly once"}
    assert all(kept.values())
    assert said_of("snapshot-corrupt")["corruption is found"]


@pytest.mark.parametrize("broken", CHECKED)
def test_what_the_checker_finds_broken_is_broken_whatever_the_drill_is_about(broken: Guarantee) -> None:
    for drill in ("node-killed", "snapshot-corrupt", "overload"):
        assert not said_of(drill, verdict="failed", broken=broken)[broken]


def watched(
    monkeypatch: pytest.MonkeyPatch, *, guard: Any = None, look: Any = None, work_s: float = 60.0, ended: bool = False
) -> tuple[str | None, bool, list[str]]:
    """Watch some work; return why it was stopped, whether it came to its end, and what went wrong."""

    async def run() -> tuple[str | None, bool, list[str]]:
        terms, done = Terms(), []
        one = runner._DrillRun(DRILLS["node-killed"], cast("Any", None), terms, cast("Any", None))

        async def never(_scene: object) -> str:
            await asyncio.Event().wait()
            return ""

        monkeypatch.setattr(one, "_guard", guard or never)
        monkeypatch.setattr(one, "_look_on", look or never)
        if ended:
            terms.ending.set()

        async def work() -> None:
            await asyncio.sleep(work_s)
            done.append(True)

        async with asyncio.timeout(30):
            stopped = await one._watched(cast("Any", None), work())
        return stopped, bool(done), one._reasons

    return asyncio.run(run())


async def harm(_scene: object) -> str:
    return "requests fail"


async def break_down(_scene: object) -> str:
    raise TypeError("what a probe returned")


def test_harm_stops_a_drill_while_a_probe_waits_for_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, guard=harm) == ("requests fail", False, [])


@pytest.mark.parametrize("who", ["guard", "look"])
def test_a_drill_that_can_be_watched_no_longer_is_stopped(monkeypatch: pytest.MonkeyPatch, who: str) -> None:
    found = watched(monkeypatch, guard=break_down) if who == "guard" else watched(monkeypatch, look=break_down)
    assert found == ("it cannot be watched: what a probe returned", False, [])


def test_a_drill_ends_by_itself_or_because_somebody_stops_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert watched(monkeypatch, work_s=0.0) == (None, True, [])
    assert watched(monkeypatch, ended=True) == (BY_SOMEBODY, False, [])


def test_what_a_probe_returns_is_told_whatever_it_is() -> None:
    assert runner._as_said({"failed": 0}) == '{"failed":0}'
    assert runner._as_said({1j, "x"}).startswith("{")
    assert runner._as_said(ValueError("no answer")) == "no answer"
