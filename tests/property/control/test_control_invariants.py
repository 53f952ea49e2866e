"""Three controllers over shared states, and a world that does what it likes: what never happens, whatever is observed.

A pure model of the closed loop. In each round the world draws who answers whom, who is silent, whose view is old, which
orders stand and how clocks step; then one controller after the other, or several from the same view, decides, and what
safety lets pass is written by comparison, as the store does it. The checks after each write know nothing of how it was
decided: they look at the states, at who answered whom, and at the true time.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from hypothesis import event, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fivenines.control.actions import Action, RaiseIncident, SetPhase
from fivenines.control.deciding import decide
from fivenines.control.desired import Desired, DesiredRegion, Order, Timings
from fivenines.control.observed import Observed, Probes, RegionState, Report

NAMES = ("a", "b", "c")
SERVES = frozenset({"serving", "few", "reads"})
TIMINGS = Timings()

regions = st.sampled_from(NAMES)
orders = st.builds(
    lambda kind, target: Order(kind=kind, target=target, at=0.0, by="ann"),
    st.sampled_from(["evacuate", "promote"]),
    regions,
)


@dataclass(frozen=True)
class Turn:
    """What the world does in one round."""

    takes_s: float
    up: tuple[bool, ...]
    """Whether each region is well, as far as it shows."""
    blind: frozenset[str]
    """Who sees nobody."""
    lost: frozenset[tuple[str, str]]
    """Single probes that are lost."""
    silent: frozenset[str]
    alone: frozenset[str]
    """Whom the store does not answer."""
    orders: tuple[Order, ...]
    clock_steps: tuple[float, ...]
    deciding: tuple[str, ...]
    """Who decides in this round, one after the other."""
    is_at_once: bool
    """Whether they decide from the same view, and then write."""
    restarts: frozenset[str]


few_regions = st.frozensets(regions, max_size=1)
turns = st.builds(
    Turn,
    takes_s=st.sampled_from([0.02, 0.5, 0.5, 0.5, 3.0, 30.0]),
    up=st.tuples(*[st.sampled_from([True, True, False])] * 3),
    blind=few_regions,
    lost=st.frozensets(st.tuples(regions, regions), max_size=3),
    silent=few_regions,
    alone=few_regions,
    orders=st.lists(orders, max_size=2).map(tuple),
    clock_steps=st.tuples(*[st.sampled_from([0.0, 0.0, 0.0, 100.0, -100.0])] * 3),
    deciding=st.permutations(NAMES).map(tuple),
    is_at_once=st.booleans(),
    restarts=few_regions,
)


@dataclass
class World:
    desired: Desired
    now: float = 0.0
    states: dict[str, RegionState] = field(default_factory=dict)
    revision: int = 0
    clocks: dict[str, float] = field(default_factory=lambda: dict.fromkeys(NAMES, 1e9))
    probes: dict[tuple[str, str], tuple[bool, ...]] = field(default_factory=dict)
    reported: dict[str, dict[str, tuple[bool, ...]]] = field(default_factory=dict)
    reported_at: dict[str, float] = field(default_factory=dict)
    known_at: dict[tuple[str, str], tuple[int, float]] = field(default_factory=dict)
    """When each controller first saw each region's state as it is."""
    went_down_at: dict[str, list[float]] = field(default_factory=dict)
    """In true time."""
    alone: frozenset[str] = frozenset()

    def go_on(self, turn: Turn) -> None:
        self.now += turn.takes_s
        self.alone = turn.alone
        for number, name in enumerate(NAMES):
            self.clocks[name] += turn.takes_s + turn.clock_steps[number]
            for region, is_up in zip(NAMES, turn.up, strict=True):
                if region not in self.serving:
                    continue  # nobody probes a region in which nothing serves
                answered = is_up and name not in turn.blind and (name, region) not in turn.lost
                self.probes[name, region] = (*self.probes.get((name, region), ()), answered)[-16:]
            if name not in turn.silent and name not in turn.alone:
                self.reported[name] = {region: self.probes[name, region] for region in self.serving}
                self.reported_at[name] = self.now
            if name in turn.restarts:
                self.known_at = {key: at for key, at in self.known_at.items() if key[0] != name}

    def observed(self, here: str) -> Observed:
        for region, state in self.states.items():
            revision, _ = self.known_at.get((here, region), (0, 0.0))
            if revision != state.revision:
                self.known_at[here, region] = (state.revision, self.now)
        return Observed(
            here=here,
            reports={
                name: Report(
                    region=name,
                    at=self.clocks[name],
                    age_s=self.now - self.reported_at[name],
                    probes={region: Probes(recent=recent) for region, recent in seen.items()},
                )
                for name, seen in self.reported.items()
            },
            states={n: replace(s, age_s=self.now - self.known_at[here, n][1]) for n, s in self.states.items()},
            has_majority=here not in self.alone,
            is_leader=here == "a",
        )

    def write(self, action: SetPhase, seen: Observed) -> bool:
        """Write a state if all are as they were seen, as the store does."""
        if {n: s.revision for n, s in seen.states.items()} != {n: s.revision for n, s in self.states.items()}:
            return False
        self.revision += 1
        self.states[action.region] = RegionState(
            name=action.region,
            phase=action.phase,
            since=self.clocks[seen.here],
            share=action.share,
            promoted=action.promoted,
            downs=action.downs,
            revision=self.revision,
        )
        return True

    @property
    def serving(self) -> list[str]:
        """The regions with nodes."""
        return [region.name for region in self.desired.regions if region.capacity_per_s != 0]

    # ---- what is true, by other means than those of the controllers

    def count_seeing(self, region: str, *, answered: bool, in_a_row: int) -> int:
        """How many observers whose reports are fresh see a region so."""
        fresh = [n for n in self.reported if self.now - self.reported_at[n] <= TIMINGS.silent_s]
        tails = [self.reported[name][region][-in_a_row:] for name in fresh]
        return sum(len(tail) == in_a_row and all(was is answered for was in tail) for tail in tails)


def check_actions(world: World, observed: Observed, actions: Sequence[Action]) -> None:
    """Without a majority nothing is done but telling; of changes that all share, one at a time."""
    if not observed.has_majority:
        assert all(isinstance(action, RaiseIncident) for action in actions)
    assert sum(isinstance(action, SetPhase) for action in actions) <= 1


def check_write(world: World, action: SetPhase, before: dict[str, RegionState]) -> None:
    old = before.get(action.region)
    if old is None:
        return
    assert action.region in world.serving, "a region without nodes has no phases"
    others = [n for n in world.serving if n != action.region and n in before and before[n].phase in SERVES]
    if old.phase in SERVES and action.phase not in SERVES:
        well = [n for n in others if world.count_seeing(n, answered=False, in_a_row=TIMINGS.losses_to_down) < 2]
        assert well, f"{action.region} was the last region that served, or that was well: {action.reason}"
    if action.phase == "down":
        seeing = world.count_seeing(action.region, answered=False, in_a_row=TIMINGS.losses_to_down)
        assert seeing >= 2, "one observer took a region down"
        if old.phase == "standby":
            world.went_down_at.pop(action.region, None)  # it hurt nobody: `health` counts anew
        world.went_down_at.setdefault(action.region, []).append(world.now)
    if old.phase == "down" and action.phase in SERVES:
        assert world.count_seeing(action.region, answered=True, in_a_row=TIMINGS.wins_to_up) >= 2
        times = world.went_down_at[action.region]
        in_a_row = 1
        while in_a_row < len(times) and times[-in_a_row] - times[-in_a_row - 1] < TIMINGS.flap_s:
            in_a_row += 1
        wait = min(TIMINGS.down_s_max, TIMINGS.down_s_min * 2 ** (in_a_row - 1))
        is_nobody_well = not any(world.count_seeing(n, answered=True, in_a_row=1) >= 2 for n in others)
        event("a region came back")
        assert is_nobody_well or world.now - times[-1] >= wait - 1e-6, "it came back faster than the hysteresis"


def check_states(world: World) -> None:
    assert any(world.states[name].phase in SERVES for name in world.serving), "nobody serves"


def run(desired: Desired, script: Sequence[Turn]) -> World:
    world = World(desired)
    for turn in script:
        world.go_on(turn)
        wanted = replace(desired, orders=turn.orders)
        views = {name: world.observed(name) for name in turn.deciding} if turn.is_at_once else {}
        for name in turn.deciding:
            observed = views.get(name) or world.observed(name)
            actions = decide(wanted, observed, world.clocks[name])
            assert not actions.failed, actions.failed
            check_actions(world, observed, actions.actions)
            for action in actions.actions:
                before = dict(world.states)
                if isinstance(action, SetPhase) and world.write(action, observed):
                    check_write(world, action, before)
        if len(world.states) == len(NAMES):
            check_states(world)
    return world


def three(third: str) -> Desired:
    """Three regions, the third of which is active, a standby, or holds a member of the journal and no nodes."""
    modes = ("active", "active", "standby" if third == "standby" else "active")
    return Desired(
        platform="bank",
        regions=tuple(
            DesiredRegion(name=name, mode=mode, rank=rank, capacity_per_s=capacity)  # type: ignore[arg-type]
            for rank, (name, mode, capacity) in enumerate(
                zip(NAMES, modes, (None, None, 0.0 if third == "member" else None), strict=True)
            )
        ),
    )


thirds = st.sampled_from(["active", "standby", "member"])

WELL = Turn(
    0.5, (True,) * 3, frozenset(), frozenset(), frozenset(), frozenset(), (), (0.0,) * 3, NAMES, False, frozenset()
)
"""What the world does when it does nothing."""


@settings(max_examples=300, deadline=None)
@given(script=st.lists(turns, min_size=1, max_size=60), third=thirds)
def test_whatever_is_observed_the_last_region_stays_and_nobody_flaps(script: list[Turn], third: str) -> None:
    world = run(three(third), [WELL, WELL, WELL, *script])
    assert world.states


@settings(max_examples=100, deadline=None)
@given(
    script=st.lists(
        st.tuples(st.tuples(*[st.booleans()] * 3), st.sampled_from([1, 2, 3, 8, 20, 60])), min_size=1, max_size=12
    ),
    third=thirds,
)
def test_regions_that_stay_as_they_are_for_a_while_do_no_harm_either(
    script: list[tuple[tuple[bool, ...], int]], third: str
) -> None:
    turns = [replace_up(up) for up, rounds in script for _ in range(rounds)]
    world = run(three(third), [WELL, WELL, WELL, *turns])
    assert world.states


@settings(max_examples=60, deadline=None)
@given(script=st.lists(turns, max_size=40), third=thirds)
def test_all_is_as_declared_again_when_the_world_has_been_well_for_long(script: list[Turn], third: str) -> None:
    """Safety first, then liveness: with no more faults every region comes back, by itself."""
    desired = three(third)
    rounds = int((TIMINGS.down_s_max + TIMINGS.demote_s + 8 * TIMINGS.step_s) / WELL.takes_s) + 40
    world = run(desired, [WELL, WELL, WELL, *script, *[WELL] * rounds])
    expected = {r.name: "serving" if r.mode == "active" else "standby" for r in desired.regions}
    assert {name: state.phase for name, state in world.states.items()} == expected


def replace_up(up: tuple[bool, ...]) -> Turn:
    return Turn(**{**WELL.__dict__, "up": up})
