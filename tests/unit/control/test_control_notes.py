import asyncio

import pytest
from msgspec.structs import replace

from fivenines.control.memory_store import MemoryStore
from fivenines.control.noting import Notes, _recent_mean
from fivenines.control.observed import MemberSeen, Observed, ServerSeen, WorkloadSeen
from fivenines.control.orders import give_order, take_back_order
from fivenines.control.store import Shared
from tests.unit.control.situations import NOW, A, B, C, desired, order, report, state

NOBODY: frozenset[str] = frozenset()


def look(notes: Notes, now: float, *, members: tuple[MemberSeen, ...] = (), has_majority: bool = True) -> Observed:
    return notes.observed(report(A), members, NOBODY, has_majority=has_majority, now=now)


def test_reports_and_states_are_as_old_as_they_have_been_known_here() -> None:
    notes = Notes(A)
    notes.note_shared(Shared(reports={B: report(B, sequence=1)}, states={B: state(B, revision=3)}), 10.0, NOW)
    assert look(notes, 10.0).reports[B].age_s == 0.0
    found = look(notes, 14.0)
    assert found.reports[B].age_s == 4.0
    assert found.states[B].age_s == 4.0
    notes.note_shared(Shared(reports={B: report(B, sequence=2)}, states={B: state(B, revision=3)}), 15.0, NOW)
    found = look(notes, 15.0)
    assert found.reports[B].age_s == 0.0, "it said something new"
    assert found.states[B].age_s == 5.0, "it is what it was"
    assert found.reports[A].age_s == 0.0


def test_it_is_known_for_how_long_the_store_has_not_answered() -> None:
    notes = Notes(A)
    assert look(notes, 5.0, has_majority=False).alone_s == 0.0
    assert look(notes, 7.0, has_majority=False).alone_s == 2.0
    notes.note_shared(Shared(is_leader=True), 8.0, NOW)
    assert look(notes, 8.0).alone_s == 0.0
    found = look(notes, 11.0, has_majority=False)
    assert found.alone_s == 3.0
    assert not found.is_leader, "who is alone leads nobody"


def test_a_member_is_away_from_when_it_was_last_reached() -> None:
    notes, member = Notes(A), MemberSeen(id=1, name="m", region=A, is_reachable=False)
    assert look(notes, 1.0, members=(member,)).members[0].away_s == 0.0
    assert look(notes, 3.0, members=(member,)).members[0].away_s == 2.0
    assert look(notes, 4.0, members=(replace(member, is_reachable=True),)).members[0].away_s == 0.0
    assert look(notes, 5.0, members=(member,)).members[0].away_s == 0.0


def test_a_region_is_heard_from_when_it_last_began_to_report_without_a_gap() -> None:
    notes = Notes(A)

    def hear(now: float, sequence: int | None) -> float | None:
        reports = {} if sequence is None else {B: report(B, sequence=sequence)}
        notes.note_shared(Shared(reports=reports), now, NOW)
        found = look(notes, now).reports.get(B)
        return None if found is None else found.heard_s

    assert [hear(0.0, 1), hear(2.0, 2), hear(4.0, 2)] == [0.0, 2.0, 4.0]
    assert hear(5.0, 2) == 0.0, "it has said nothing new for too long"
    assert [hear(90.0, 3), hear(91.0, 4)] == [0.0, 1.0]
    assert [hear(92.0, None), hear(150.0, 5)] == [None, 0.0], "its controller was gone"


def test_this_region_is_heard_while_the_store_answers_it() -> None:
    notes = Notes(A)

    def heard_s(now: float, *, has_majority: bool = True) -> float | None:
        if has_majority:
            notes.note_shared(Shared(), now, NOW)
        return look(notes, now, has_majority=has_majority).reports[A].heard_s

    assert [heard_s(0.0), heard_s(5.0)] == [0.0, 5.0]
    assert heard_s(6.0, has_majority=False) == 6.0, "an election is no gap"
    assert heard_s(8.0, has_majority=False) == 0.0
    assert [heard_s(99.0), heard_s(100.0)] == [0.0, 1.0]


def test_a_node_is_stalled_from_when_its_position_last_moved() -> None:
    notes = Notes(A)

    def see(position: int | None, now: float) -> float | None:
        seen = WorkloadSeen(name="n", role="node", state="unready", since=0.0, position=position)
        return notes.local(report(A, workloads=(seen,)), desired(), now).workloads[0].stalled_s

    assert see(None, 0.0) is None
    assert [see(7, 1.0), see(8, 2.0), see(8, 5.0)] == [0.0, 0.0, 3.0]
    assert see(None, 6.0) == 4.0, "it was busy for a moment"
    assert see(9, 7.0) == 0.0


def test_clocks_are_compared_by_the_quickest_report() -> None:
    notes = Notes(A)
    for number, delay_s in enumerate([0.4, 0.02, 0.3]):
        ahead = replace(report(B, sequence=number), at=NOW + number + 1.0)
        behind = replace(report(C, sequence=number), at=NOW + number - 2.0)
        notes.note_shared(Shared(reports={B: ahead, C: behind}), float(number), NOW + number + delay_s)
    assert notes.skew_ms()[B] == pytest.approx(980, abs=1)
    assert notes.skew_ms()[C] == pytest.approx(-2020, abs=1)


def test_a_workload_is_unready_from_when_it_was_last_ready_through_all_states() -> None:
    notes = Notes(A)

    def see(state: str, restarts: int, now: float) -> WorkloadSeen:
        seen = WorkloadSeen(name="n", role="node", state=state, since=now, restarts=restarts)  # type: ignore[arg-type]
        return notes.local(report(A, workloads=(seen,)), desired(), now).workloads[0]

    assert see("ready", 7, 0.0).unready_s == 0.0
    assert see("backoff", 8, 1.0).unready_s == 0.0
    found = see("starting", 9, 11.0)
    assert (found.unready_s, found.failed_starts) == (10.0, 2)
    assert see("ready", 9, 12.0).unready_s == 0.0
    assert see("backoff", 10, 13.0).failed_starts == 1
    notes.note_replaced("n", 13.0)
    assert see("starting", 10, 15.0).replaced_s == 2.0


def test_servers_are_seen_in_a_window() -> None:
    notes = Notes(A)

    def see(now: float, requests: int, errors: int, weight: int = 100, *, is_up: bool = True) -> ServerSeen:
        seen = ServerSeen(
            name="n", is_up=is_up, weight=weight, requests=requests, errors=errors, latency_ms=5.0, in_flight=0
        )
        return notes.local(report(A, servers=(seen,)), desired(), now).servers[0]

    see(0.0, 1_000, 10)
    assert see(1.0, 1_100, 12).requests_recent == 100
    found = see(6.0, 1_600, 20, weight=0)
    assert (found.requests_recent, found.errors_recent) == (500, 8)
    assert (found.weight_s, found.ejections) == (0.0, 1)
    assert see(9.0, 1_600, 20, weight=0).weight_s == 3.0
    assert see(10.0, 5, 0).requests_recent == 0, "its edge was started anew"
    assert see(11.0, 5, 0).up_s == 11.0
    assert see(12.0, 5, 0, is_up=False).up_s == 0.0
    assert [see(13.0, 5, 0).up_s, see(15.0, 5, 0).up_s] == [0.0, 2.0]


def test_the_mean_of_the_last_requests_is_told_from_the_edges_sliding_mean() -> None:
    mean = 10.0
    for _ in range(300):
        mean += (200.0 - mean) / 1_024
    assert _recent_mean(10.0, mean, 300) == pytest.approx(200.0, rel=0.01)
    assert _recent_mean(10.0, 20.0, 5) is None


def test_orders_are_written_into_the_timeline() -> None:
    async def scenario() -> None:
        view = MemoryStore().view("")
        await give_order(view, order("evacuate", B, why="disk", override=True), region=A)
        assert (await view.read_all()).orders[0].target == B
        assert await take_back_order(view, "evacuate", B, at=NOW, by="ann")
        assert not await take_back_order(view, "evacuate", B, at=NOW, by="ann")
        assert [event.what for event in await view.timeline()] == [
            f"evacuate {B}, by ann, though safety speaks against it",
            f"evacuate {B} taken back, by ann",
        ]

    asyncio.run(scenario())
