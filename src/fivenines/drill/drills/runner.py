"""Carry one drill out, from the look before it to its result.

    may it begin?      the machine can, the platform is whole, there is budget left
    clients begin      and go on until the end
    hypothesis before
    method             each second: the hypothesis during, and the guard; harm ends it at once
    all is undone      whatever happened: faults, the last one first, then the rollbacks
    whole again        by the platform's own doing
    hypothesis after
    judged             by the checker, and by what the controllers wrote down

What to decide is decided by pure functions elsewhere: `guarding`, `tolerance`, `measuring`.
"""

import asyncio
import contextlib
import os
import random
import time
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from fivenines.control.budget import YEAR_S
from fivenines.control.timeline import Event
from fivenines.drill.checker.gathering import places_of
from fivenines.drill.checker.sampling import Sampling
from fivenines.drill.drills import measuring, probes, tolerance
from fivenines.drill.drills.about import about_machine, versions
from fivenines.drill.drills.announcing import announce
from fivenines.drill.drills.checking import find_function
from fivenines.drill.drills.clients import plan_for
from fivenines.drill.drills.experiment import Activity, When
from fivenines.drill.drills.found import FoundPlatform
from fivenines.drill.drills.guarding import Harm, harm, why_not_begin
from fivenines.drill.drills.judging import Judged, judge_drill
from fivenines.drill.drills.plain_clients import PlainClients
from fivenines.drill.drills.providing import ActivityFailedError, carry_out
from fivenines.drill.drills.reading import Drill
from fivenines.drill.drills.scene import Scene
from fivenines.drill.drills.substituting import configure, substitute
from fivenines.drill.drills.watching import Watcher
from fivenines.drill.faults import FAULTS
from fivenines.drill.load.running import RunningLoad
from fivenines.drill.results import BY_SOMEBODY, Checked, DrillResult, GuaranteeVerdict, Moment, Verdict
from fivenines.drill.running import PlatformFailedError, RunningPlatform
from fivenines.platform.local.agent_client import AgentError
from fivenines.platform.local.isolation import why_not as why_no_netns

__all__ = ["Telling", "Terms", "carry_out_drill", "not_begun", "why_skip"]

_LOOK_S = 1.0
_WHOLE_S_MAX = 60.0
"""How long a platform may take to be whole before a drill begins."""
_AFTER_S = 1.0
"""What was due just before all was whole again belongs to the drill, too."""
_EVENTS_MAX = 1_000
_TIMELINE_LATE_S = 0.5
_SAMPLE_S = 2.0

_SHOWN_BY_DRILLS = frozenset({"overload is shed", "corruption is found"})

T = TypeVar("T")


class Telling(Protocol):
    """Who is told how a drill goes."""

    def step(self, text: str) -> None:
        """Something begins, or came out."""

    def live(self, seen: Harm, answered: int, worst_s: float) -> None:
        """How clients fare so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How drills are carried out."""

    rate_per_s: float = 100.0
    seed: int = 1
    override: str = ""
    """Why a drill may begin although something speaks against it; empty: it may not."""
    given: Mapping[str, Any] = field(default_factory=dict)
    """Values in the place of those that a drill configures."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Set by whoever wants all of it to end: the drill under way is undone."""


def why_skip(drill: Drill, *, isolation: str) -> str | None:
    """Say why this machine cannot carry a drill out, or return None."""
    needs = set(drill.ours.needs)
    if ("netns" in needs or any(FAULTS[each].takes_netns for each in drill.faults)) and isolation != "netns":
        return f"its regions share one network: {why_no_netns() or 'they were given none of their own'}"
    if "root" in needs and os.geteuid() != 0:
        return "it takes root"
    for each in drill.faults:
        if (why := FAULTS[each].why_not()) is not None:
            return f"{each.replace('_', ' ')}: {why}"
    return None


async def carry_out_drill(drill: Drill, platform: RunningPlatform, terms: Terms, telling: Telling) -> DrillResult:
    """Carry a drill out on a platform that runs, and return what came of it; whatever goes wrong is in there.

    Raises:
        PlatformFailedError: and others, where the load or the platform itself ended.
    """
    return await _DrillRun(drill, platform, terms, telling).run()


def not_begun(drill: Drill, terms: Terms, verdict: Verdict, *reasons: str) -> DrillResult:
    """Return the result of a drill that was skipped or refused."""
    return DrillResult(
        name=drill.name,
        title=drill.said.title,
        description=drill.said.description,
        tags=drill.said.tags,
        verdict=verdict,
        reasons=reasons,
        seed=terms.seed,
        began_at=time.time(),
        rate_per_s=terms.rate_per_s * drill.ours.load,
        versions=versions(),
        machine=about_machine(),
    )


class _DrillRun:
    def __init__(self, drill: Drill, platform: RunningPlatform, terms: Terms, telling: Telling) -> None:
        self._drill, self._platform, self._terms, self._telling = drill, platform, terms, telling
        self._began_at = time.time()
        self._rate_per_s = terms.rate_per_s * drill.ours.load
        self._checked: list[Checked] = []
        self._last: dict[str, bool] = {}
        self._reasons: list[str] = []
        self._values: dict[str, Any] = {}
        self._whole_at: float | None = None
        self._judged: Judged | None = None
        self._after = 0

    async def run(self) -> DrillResult:
        drill, terms = self._drill, self._terms
        if (why := why_skip(drill, isolation=self._platform.topology.isolation)) is not None:
            return self._not_begun("skipped", why)
        self._values, missing = configure(drill.said.configuration, os.environ, terms.given)
        if missing:
            return self._not_begun("refused", *(f"{name}: {reason}" for name, reason in missing))
        why = await self._why_not_begin()
        if why is not None and not terms.override:
            return self._not_begun("refused", why)
        folder = self._platform.folder / "drills" / drill.name
        folder.mkdir(parents=True, exist_ok=True)
        name = f"{drill.name}-{int(self._began_at)}"
        plan = plan_for(self._platform.topology, rate_per_s=self._rate_per_s, seed=terms.seed, name=name)
        load = RunningLoad(plan, folder / "load.log")
        self._after = await probes.lowest_position(self._platform)
        try:
            await load.start()
            await asyncio.sleep(drill.ours.warm_s)
            self._began_at = time.time()
            log = self._platform.folder / "platform.log"
            edges = {region: self._platform.topology.edge_url(region) for region in self._platform.regions}
            scene = Scene(
                platform=self._platform,
                load=load,
                rate_per_s=self._rate_per_s,
                chance=random.Random(f"{terms.seed}/{drill.name}"),
                began=time.monotonic(),
                plain=PlainClients(edges, each=drill.ours.plain_clients),
                log_began=log.stat().st_size if log.exists() else 0,
            )
            if not isinstance(self._platform, FoundPlatform):
                scene.end_load = partial(self._end_load, scene, load)
            await announce(self._platform.topology, f"drill {drill.name} begins", drill=drill.name)
            if why is not None:
                await self._begin_all_the_same(scene, why)
            return await self._on(scene, load, folder)
        finally:
            await load.discard()

    async def _on(self, scene: Scene, load: RunningLoad, folder: Path) -> DrillResult:
        self._telling.step("hypothesis before")
        if When.BEFORE in self._drill.said.when:
            await self._look(scene, When.BEFORE)
        if self._reasons and not self._terms.override:
            return self._not_begun("refused", *self._reasons)
        if self._reasons:
            await self._begin_all_the_same(scene, "; ".join(self._reasons))
        nodes = places_of(self._platform.topology).nodes
        async with (
            Watcher(self._platform, self._began_at) as watcher,
            Sampling(nodes, every_s=_SAMPLE_S) as sampling,
            scene.plain,
        ):
            stopped = await self._watched(scene, self._method(scene))
            await self._finish(scene, stopped)
        if not scene.is_over:
            await load.wait_ended(time.monotonic() + _AFTER_S)
            self._telling.step("hypothesis after")
            if When.AFTER in self._drill.said.when:
                await self._look(scene, When.AFTER)
            await load.stop()
        ended, ended_at = time.monotonic(), time.time()
        (folder / "asked.jsonl").write_bytes(b"\n".join(map(msgspec.json.encode, load.asked)))
        if self._judged is None:
            self._telling.step("judging all answers")
            self._judged = await judge_drill(self._platform, load.asked, sampling.said, after=self._after)
        judged = self._judged
        if not scene.is_over:
            over = f"drill {self._drill.name} is over"
            await announce(self._platform.topology, over, drill=self._drill.name, why=stopped or "")
        seen = [
            *watcher.moments,
            *measuring.moments_of(await self._timeline(scene), began_at=self._began_at, ended_at=ended_at),
        ]
        return self._result(scene, judged, sorted(seen, key=lambda moment: moment.at), ended, stopped)

    async def _begin_all_the_same(self, scene: Scene, why: str) -> None:
        """Write down, here and in the platform's own timeline, that something spoke against the drill."""
        what, reason = "begun although something speaks against it", f"{why}; because: {self._terms.override}"
        scene.note("hypothesis", what, why=reason)
        name = self._drill.name
        await announce(self._platform.topology, f"drill {name} is {what}", drill=name, why=reason)

    async def _end_load(self, scene: Scene, load: RunningLoad) -> None:
        """End the clients and judge them, for there will be nobody to ask afterwards."""
        scene.is_over = True  # nobody is to wonder that there are no answers
        await load.stop()
        self._judged = await judge_drill(self._platform, load.asked, (), after=self._after)

    # --- before ---------------------------------------------------------------------------------------------------

    async def _why_not_begin(self) -> str | None:
        self._telling.step("is the platform whole?")
        trouble = ""
        try:
            await self._platform.wait_whole(_WHOLE_S_MAX)
        except PlatformFailedError as error:
            trouble = _first(error)
        spec = self._platform.topology.spec
        left_s = (1.0 - spec.slo) * YEAR_S
        for region in self._platform.regions:
            with contextlib.suppress(AgentError):
                left_s -= (await self._platform.agents.view(region)).books.lost_s
                break
        return why_not_begin(trouble=trouble, budget_left_s=left_s, needed_s=self._drill.ours.guard.budget_s)

    # --- meanwhile ------------------------------------------------------------------------------------------------

    async def _method(self, scene: Scene) -> None:
        """Take all steps, undo, and wait until the platform is whole again. Raises ActivityFailedError and others."""
        async with asyncio.TaskGroup() as tasks:
            for activity in self._drill.said.method:
                if (limit_s := self._drill.ours.limit_s) is not None and scene.now > limit_s:
                    break
                self._telling.step(activity.name)
                step = self._step(scene, activity)
                if activity.background:
                    tasks.create_task(step, name=activity.name)
                else:
                    await step
        await self._undo(scene)
        if not scene.is_over:
            self._telling.step("waiting until all is whole again")
            await self._wait_whole()

    async def _step(self, scene: Scene, activity: Activity) -> None:
        try:
            found = await carry_out(activity, scene, self._values)
        except ActivityFailedError as error:
            self._reasons.append(str(error))
            return
        if activity.has_tolerance:
            wanted = substitute(activity.tolerance, self._values)
            is_held = tolerance.holds(wanted, found)
            self._note_checked(scene, When.DURING, activity.name, wanted, found, is_held=is_held)

    async def _watched(self, scene: Scene, work: Awaitable[None]) -> str | None:
        """Do something while the hypothesis and the guard are looked at; returns why it was stopped, if it was."""
        doing = asyncio.ensure_future(work)
        # Apart from each other: a probe that waits long for its answer must not keep the guard from seeing harm.
        guarding = asyncio.create_task(self._guard(scene), name="the guard")
        looking = asyncio.create_task(self._look_on(scene), name="the hypothesis during the drill")
        ending = asyncio.create_task(self._terms.ending.wait(), name="waiting for an end")
        stopped = None
        try:
            await asyncio.wait({doing, guarding, looking, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if ending.done():
                stopped = BY_SOMEBODY
            elif not doing.done():
                stopped = next((_came_of(each) for each in (guarding, looking) if each.done()), None)
            for each in (doing, guarding, looking, ending):
                each.cancel()
            results = await asyncio.gather(doing, guarding, looking, ending, return_exceptions=True)
        if isinstance(results[0], Exception):
            failed = results[0]
            first = failed.exceptions[0] if isinstance(failed, BaseExceptionGroup) else failed
            self._reasons.append(_first(first))
        return stopped

    async def _look_on(self, scene: Scene) -> str:
        """Look at the hypothesis again and again; returns never."""
        while True:
            began = time.monotonic()
            if When.DURING in self._drill.said.when and not scene.is_over:
                await self._look(scene, When.DURING)
            await asyncio.sleep(max(0.1, began + _LOOK_S - time.monotonic()))

    async def _guard(self, scene: Scene) -> str:
        """Look for harm again and again; returns when there is some, with what it is."""
        while True:
            began = time.monotonic()
            asked = scene.since_began()
            answered, now = [each for each in asked if not each.error], time.monotonic()
            seen = Harm(
                budget_s=probes.budget_used(scene) + probes.late_now(scene) / scene.rate_per_s,
                failed=probes.failed_requests(scene),
                silent_s=0.0 if scene.is_over else now - max((each.ended for each in answered), default=scene.began),
                lost=0 if scene.is_over else await probes.lost_just_now(scene),
            )
            self._telling.live(seen, len(answered), measuring.longest_pause_s(asked))
            if (why := harm(self._drill.ours.guard, seen)) is not None:
                scene.note("stopped", "the guard", why=why)
                return why
            await asyncio.sleep(max(0.1, began + _LOOK_S - time.monotonic()))

    async def _look(self, scene: Scene, when: When) -> None:
        hypothesis = self._drill.said.steady_state_hypothesis
        chosen = [
            each
            for each in (hypothesis.probes if hypothesis else ())
            if when is not When.DURING or not _is_at_rest(each)
        ]
        looks = await asyncio.gather(*(carry_out(each, scene, self._values) for each in chosen), return_exceptions=True)
        for probe, found in zip(chosen, looks, strict=True):
            if isinstance(found, BaseException) and not isinstance(found, Exception):
                raise found
            wanted = substitute(probe.tolerance, self._values)
            is_held = not isinstance(found, Exception) and tolerance.holds(wanted, found)
            self._note_checked(scene, when, probe.name, wanted, found, is_held=is_held)

    def _note_checked(self, scene: Scene, when: When, probe: str, wanted: Any, found: Any, *, is_held: bool) -> None:
        """Keep a look, if it tells something: during a drill the first one, and each change."""
        if when is When.DURING and self._last.get(probe) == is_held:
            return
        if when is When.DURING:
            self._last[probe] = is_held
        value = _as_said(found)
        self._checked.append(
            Checked(
                at=round(scene.now, 3),
                when=when.value,
                probe=probe,
                tolerance=tolerance.told(wanted),
                value=value[:300],
                holds=is_held,
            )
        )
        if not is_held:
            reason = f"{when.value}: {probe}: {value[:120]}, wanted {tolerance.told(wanted)}"
            scene.note("hypothesis", f"does not hold: {probe}", why=f"{value[:120]}, wanted {tolerance.told(wanted)}")
            self._reasons.append(reason)

    # --- after ----------------------------------------------------------------------------------------------------

    async def _undo(self, scene: Scene) -> None:
        """End all faults, then do the rollbacks. Is gone through with even if the drill is being stopped."""

        async def undo() -> None:
            self._reasons += await scene.end_all()
            for activity in self._drill.said.rollbacks:
                self._telling.step(f"rollback: {activity.name}")
                await self._step(scene, activity)

        await _through(undo())

    async def _finish(self, scene: Scene, stopped: str | None) -> None:
        if stopped is None and not scene.in_force:
            return
        self._telling.step("undoing")
        await self._undo(scene)
        try:
            if not scene.is_over:
                await self._wait_whole()
        except PlatformFailedError as error:
            self._reasons.append(_first(error))

    async def _wait_whole(self) -> None:
        await self._platform.wait_whole(self._drill.ours.settle_s)
        self._whole_at = time.monotonic()

    async def _timeline(self, scene: Scene) -> list[Event]:
        if scene.is_over:
            return []
        await asyncio.sleep(_TIMELINE_LATE_S)
        for region in self._platform.regions:
            with contextlib.suppress(AgentError):
                return await self._platform.agents.timeline(region, limit=_EVENTS_MAX)
        return []

    # --- the result -----------------------------------------------------------------------------------------------

    def _not_begun(self, verdict: Verdict, *reasons: str) -> DrillResult:
        result = not_begun(self._drill, self._terms, verdict, *reasons)
        return msgspec.structs.replace(result, checked=tuple(self._checked), began_at=self._began_at)

    def _result(
        self, scene: Scene, judged: Judged, seen: Sequence[Moment], ended: float, stopped: str | None
    ) -> DrillResult:
        drill, spec = self._drill, self._platform.topology.spec
        asked = scene.since_began()
        faults = sorted(scene.gone, key=lambda fault: fault.began)
        starts = [*(each.began for each in faults[1:]), ended]
        recoveries = [
            measuring.recovery_of(
                fault,
                moments=seen,
                asked=asked,
                began=scene.began,
                until=max(until, fault.began + 0.001),
                rate_per_s=self._rate_per_s,
                whole_after_s=None if self._whole_at is None else self._whole_at - fault.began,
            )
            for fault, until in zip(faults, starts, strict=False)
        ]
        if self._whole_at is not None:
            scene.note("recovered", "whole: every part runs and every region serves", at=self._whole_at)
        reasons = [*([stopped] if stopped else []), *self._reasons, *judged.reasons]
        verdict: Verdict = "stopped" if stopped else "failed" if reasons else "passed"
        bad = sum(each.is_bad for each in asked)
        budget_s = bad / self._rate_per_s
        costs = spec.downtime_cost_per_hour > 0
        return DrillResult(
            name=drill.name,
            title=drill.said.title,
            description=drill.said.description,
            tags=drill.said.tags,
            verdict=verdict,
            reasons=tuple(dict.fromkeys(reasons)),
            guarantees=_guarantees(drill, judged, verdict, reasons, len(asked)),
            seed=self._terms.seed,
            began_at=self._began_at,
            took_s=round(ended - scene.began, 3),
            rate_per_s=self._rate_per_s,
            requests=len(asked),
            acknowledged=sum(1 for each in asked if each.id and not each.error),
            failed_requests=sum(1 for each in asked if each.error and not each.is_refused),
            refused_requests=sum(1 for each in asked if each.is_refused),
            lost=judged.lost,
            doubled=judged.doubled,
            reordered=judged.reordered,
            longest_pause_s=round(measuring.longest_pause_s(asked), 3),
            availability=1.0 - bad / len(asked) if asked else 1.0,
            budget_s=round(budget_s, 3),
            cost=round(budget_s / 3_600 * spec.downtime_cost_per_hour, 2) if costs else None,
            currency=spec.currency if costs else "",
            moments=tuple(sorted([*scene.moments, *seen], key=lambda moment: moment.at)),
            slices=measuring.slices_of(asked, scene.began, ended),
            recoveries=tuple(recoveries),
            checked=tuple(self._checked),
            findings=judged.findings,
            versions=versions(),
            machine=about_machine(),
        )


def _guarantees(
    drill: Drill, judged: Judged, verdict: Verdict, reasons: Sequence[str], requests: int
) -> tuple[GuaranteeVerdict, ...]:
    """What the checker says of each, and of those that the drill is about, whether its hypothesis held as well.

    Of some the checker sees only what speaks against them. They are kept where a drill was about them, and nowhere
    else: that nothing was damaged does not show that damage is found.
    """
    said = {each.guarantee: each for each in judged.guarantees}
    held = f"the hypothesis held, for {requests:,} requests"
    by_drill = []
    for guarantee in drill.guarantees:
        checked = said.pop(guarantee, None)
        if checked is not None and (verdict == "passed" or not checked.is_kept):
            by_drill.append(checked)
        else:
            is_kept = verdict == "passed"
            why = held if is_kept else "; ".join(reasons)
            by_drill.append(GuaranteeVerdict(guarantee=guarantee, is_kept=is_kept, why=why))
    by_checker = [each for each in said.values() if not (each.is_kept and each.guarantee in _SHOWN_BY_DRILLS)]
    return (*by_drill, *by_checker)


def _came_of(watching: "asyncio.Task[str]") -> str:
    """Say why a drill is stopped, of who watched it: for harm, or because it can be watched no longer."""
    error = None if watching.cancelled() else watching.exception()
    return f"it cannot be watched: {_first(error)}" if error is not None else watching.result()


def _as_said(found: Any) -> str:
    if isinstance(found, Exception | str):
        return str(found)
    try:
        return msgspec.json.encode(found).decode()
    except (TypeError, ValueError, msgspec.MsgspecError):  # a probe of somebody else's may return anything
        return repr(found)


def _is_at_rest(probe: Activity) -> bool:
    if probe.provider.type != "python":
        return False
    return probes.is_at_rest(find_function(probe.provider.module, probe.provider.func))


def _first(error: BaseException) -> str:
    """Return the first sentence of an error: what it logged last stands in the platform's folder."""
    return (str(error) or repr(error)).splitlines()[0].partition(". It logged last")[0]


async def _through(work: Awaitable[T]) -> T:
    """Await something to its end, even when whoever waits is cancelled meanwhile."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        raise
