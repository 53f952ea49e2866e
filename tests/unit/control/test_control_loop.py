import asyncio
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from fivenines.control.actions import Action, ReplaceWorkload
from fivenines.control.desired import Desired
from fivenines.control.loop import ActionFailedError, Clock, Controller, Steering
from fivenines.control.memory_store import MemoryStore, MemoryView
from fivenines.control.observed import MemberSeen, Probes, Report, WorkloadSeen
from fivenines.traffic.table import SteeredRegion, SteeringTable, read_table
from tests.unit.control.situations import DOWN, LOST_ONE, NAMES, NOW, UP, A, B, C, desired, order


class World:
    """What the controllers look at, and their clock; `see` is whom each observer sees how."""

    def __init__(self) -> None:
        self.now = 100.0
        self.see: dict[str, dict[str, Probes]] = {name: dict.fromkeys(NAMES, UP) for name in NAMES}
        self.workloads: dict[str, tuple[WorkloadSeen, ...]] = {}
        self.acted: list[Action] = []
        self.fails = False
        self.sensors_fail = False
        self.hold: asyncio.Event | None = None

    @property
    def clock(self) -> Clock:
        return Clock(monotonic=lambda: self.now, unix=lambda: NOW + self.now)

    def all_see(self, region: str, seen: Probes) -> None:
        for sees in self.see.values():
            sees[region] = seen


class Eyes:
    def __init__(self, world: World, here: str) -> None:
        self.changed = asyncio.Event()
        self._world, self._here = world, here

    def seen(self) -> Mapping[str, Probes]:
        return self._world.see[self._here]


class Body:
    def __init__(self, world: World, here: str) -> None:
        self._world, self._here = world, here

    async def look(self) -> Report:
        if self._world.sensors_fail:
            raise RuntimeError("the agent is gone")
        return Report(region=self._here, at=0.0, workloads=self._world.workloads.get(self._here, ()))

    async def act(self, action: Action) -> None:
        if self._world.hold is not None:
            await self._world.hold.wait()
        if self._world.fails:
            raise ActionFailedError("no room on the disk")
        self._world.acted.append(action)


class Fleet:
    """Three controllers over one store, that go round when they are told to."""

    def __init__(self, folder: Path | None = None, wanted: Desired | None = None) -> None:
        self.world, self.store = World(), MemoryStore()
        self.wanted = wanted or desired()
        self.folder = folder
        self.views: dict[str, MemoryView] = {}
        self.controllers: dict[str, Controller] = {}
        for name in NAMES:
            self.start(name)

    def start(self, name: str) -> None:
        body = Body(self.world, name)
        view = self.views[name] = self.store.view(name)
        steering = None
        if self.folder is not None:
            steering = Steering(path=self.folder / f"{name}.json", declared=declared(name))
        self.controllers[name] = Controller(
            name,
            lambda: self.wanted,
            sensors=body,
            driver=body,
            store=view,
            prober=Eyes(self.world, name),
            steering=steering,
            clock=self.world.clock,
        )

    async def rounds(self, count: int = 1, *, step_s: float = 0.5, only: tuple[str, ...] = NAMES) -> None:
        for _ in range(count):
            self.world.now += step_s
            for name in only:
                await self.controllers[name].round()
            await asyncio.sleep(0)

    def phases(self) -> dict[str, str]:
        return {name: state.phase for name, state in self.store.states.items()}

    def told(self, kind: str) -> list[str]:
        return [event.what for event in self.store.events if event.kind == kind]

    def shares(self, name: str) -> dict[str, float]:
        assert self.folder is not None
        return {r.name: r.share for r in read_table(self.folder / f"{name}.json").regions}


def declared(here: str) -> SteeringTable:
    regions = tuple(
        SteeredRegion(name=name, addresses=(f"127.0.{number}.1",), nameserver=f"127.0.{number}.1")
        for number, name in enumerate(NAMES, start=1)
    )
    return SteeringTable(zone="bank.test", serial=0, here=here, regions=regions)


def node(state: str, *, restarts: int = 0) -> WorkloadSeen:
    return WorkloadSeen(name=f"{A}-1", role="node", state=state, since=0.0, restarts=restarts)  # type: ignore[arg-type]


def test_three_controllers_agree_that_all_serve() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.rounds(4)
        assert fleet.phases() == dict.fromkeys(NAMES, "serving")
        assert fleet.store.leader == A

    asyncio.run(scenario())


def test_a_region_that_is_gone_leaves_the_names_of_all_others_and_comes_back_by_steps(tmp_path: Path) -> None:
    async def scenario() -> None:
        fleet = Fleet(tmp_path)
        await fleet.rounds(4)
        fleet.world.all_see(C, DOWN)
        fleet.views[C].is_shut = True
        await fleet.rounds(2, only=(A, B))
        assert fleet.phases() == {A: "serving", B: "serving", C: "down"}
        assert fleet.shares(A) == fleet.shares(B) == {A: 1.0, B: 1.0, C: 0.0}

        fleet.views[C].is_shut = False
        fleet.world.all_see(C, UP)
        seen: list[str] = []
        for _ in range(60):
            await fleet.rounds()
            if fleet.phases()[C] not in seen[-1:]:
                seen.append(fleet.phases()[C])
        assert seen == ["down", "reads", "few", "serving"]
        assert fleet.shares(C) == dict.fromkeys(NAMES, 1.0)
        assert "region: us-east" in fleet.told("incident")
        assert "region: us-east" in fleet.told("resolved")

    asyncio.run(scenario())


def test_a_controller_that_is_cut_off_changes_nothing_and_keeps_its_table(tmp_path: Path) -> None:
    async def scenario() -> None:
        fleet = Fleet(tmp_path)
        await fleet.rounds(4)
        before = read_table(tmp_path / f"{A}.json")
        fleet.views[A].is_shut = True
        for name in (B, C):
            fleet.world.see[A][name] = DOWN
        await fleet.rounds(20, only=(A,))
        decision = fleet.controllers[A].decision
        assert decision is not None
        assert {type(action).__name__ for action in decision.actions} <= {"RaiseIncident"}
        assert fleet.phases() == dict.fromkeys(NAMES, "serving")
        assert read_table(tmp_path / f"{A}.json") == before

    asyncio.run(scenario())


def test_one_lost_probe_and_one_blind_observer_move_nothing() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.rounds(4)
        fleet.world.all_see(B, LOST_ONE)
        fleet.world.see[A] = dict.fromkeys(NAMES, DOWN)
        await fleet.rounds(20)
        assert fleet.phases() == dict.fromkeys(NAMES, "serving")

    asyncio.run(scenario())


def test_an_order_takes_a_region_out_until_it_is_taken_back() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.rounds(4)
        await fleet.views[B].put_order(order("evacuate", B, why="maintenance"))
        await fleet.rounds(2)
        assert fleet.phases()[B] == "evacuated"
        await fleet.views[B].delete_order("evacuate", B)
        await fleet.rounds(30)
        assert fleet.phases()[B] == "serving"

    asyncio.run(scenario())


def test_a_refused_order_is_told_once() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.rounds(4)
        await fleet.views[A].put_order(order("evacuate", B))
        await fleet.rounds(4)
        await fleet.views[A].put_order(order("evacuate", A))
        await fleet.rounds(20, only=(A,))
        assert fleet.phases()[A] == "serving"
        assert len(fleet.told("refused")) == 1

    asyncio.run(scenario())


def test_what_is_under_way_is_not_begun_again() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        fleet.world.hold = asyncio.Event()
        fleet.world.workloads[A] = (node("ready"),)
        await fleet.rounds(2)
        fleet.world.workloads[A] = (node("backoff", restarts=9),)
        await fleet.rounds(100)
        assert fleet.world.acted == []
        fleet.world.hold.set()
        await fleet.rounds(1)
        await fleet.rounds(100)
        assert [type(action) for action in fleet.world.acted] == [ReplaceWorkload]
        assert fleet.told("decided") == fleet.told("done")[-1:]

    asyncio.run(scenario())


def test_what_was_begun_anew_in_vain_is_told_and_gets_its_time() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        fleet.world.fails = True
        fleet.world.workloads[A] = (node("ready"),)
        await fleet.rounds(2)
        fleet.world.workloads[A] = (node("backoff", restarts=9),)
        await fleet.rounds(140)
        assert len(fleet.told("failed")) == 1, "who gave up waiting has emptied it all the same"
        assert f"workload: {A}-1" in fleet.told("incident")
        fleet.world.fails = False
        await fleet.rounds(160)
        assert len(fleet.world.acted) == 1

    asyncio.run(scenario())


def test_what_a_driver_could_not_do_is_tried_again_after_a_while() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        fleet.world.fails = True
        fleet.world.workloads[A] = (node("ready"),)
        await fleet.rounds(2)
        await fleet.views[A].put_order(order("drain", f"{A}-1"))
        await fleet.rounds(30)
        assert 1 <= len(fleet.told("failed")) <= 4
        fleet.world.fails = False
        await fleet.rounds(12)
        assert fleet.world.acted

    asyncio.run(scenario())


def test_a_member_that_is_back_since_the_last_look_is_not_removed() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        members = [MemberSeen(id=n, name=name, region=name, is_reachable=True) for n, name in enumerate(NAMES, start=1)]
        fleet.store.journal_members = tuple(members)
        journal = WorkloadSeen(name=f"{C}-journal", role="journal", state="unready", since=0.0)
        fleet.world.workloads[C] = (journal,)
        await fleet.rounds(4)
        # What its list says is of a moment ago.
        fleet.controllers[A]._members = (*members[:2], replace(members[2], is_reachable=False))
        await fleet.rounds(200)
        assert fleet.store.members_changed == []
        assert fleet.told("refused") == [f"remove member {C}"]

        fleet.store.journal_members = fleet.controllers[A]._members = (
            *members[:2],
            replace(members[2], is_reachable=False),
        )
        await fleet.rounds(200)
        assert fleet.store.members_changed[0] == "removed 3"

    asyncio.run(scenario())


def test_sensors_that_fail_leave_what_is_seen_of_others() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.rounds(4)
        fleet.world.sensors_fail = True
        fleet.world.all_see(C, DOWN)
        await fleet.rounds(2)
        assert fleet.phases()[C] == "down"

    asyncio.run(scenario())


def test_a_controller_that_was_started_anew_goes_on() -> None:
    async def scenario() -> None:
        fleet = Fleet()
        await fleet.rounds(4)
        fleet.world.all_see(C, DOWN)
        await fleet.rounds(2)
        for name in NAMES:
            fleet.views[name].die()
            fleet.start(name)
        fleet.world.all_see(C, UP)
        await fleet.rounds(8)
        assert fleet.phases()[C] == "down", "its time begins anew with the controllers"
        await fleet.rounds(40)
        assert fleet.phases()[C] == "serving"

    asyncio.run(scenario())


def test_the_loop_goes_round_by_itself_and_ends_in_order() -> None:
    async def scenario() -> None:
        fleet = Fleet(wanted=desired())
        tasks = [asyncio.create_task(controller.run()) for controller in fleet.controllers.values()]
        for _ in range(3_000):
            if len(fleet.store.states) == 3 and fleet.store.leader:
                break
            await asyncio.sleep(0.01)
        assert fleet.phases() == dict.fromkeys(NAMES, "serving")
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert fleet.store.reports == {}, "a controller that ends takes its report back"
        assert fleet.store.leader == ""

    asyncio.run(scenario())
