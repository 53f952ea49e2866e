"""Tables of situations, a table for each controller: what is seen, and what is decided."""

from typing import Any

import pytest
from msgspec.structs import replace

from fivenines.control.actions import (
    AddMember,
    DrainNode,
    RaiseIncident,
    RemoveMember,
    ReplaceWorkload,
    SetNodeWeight,
    SetPhase,
    UndrainNode,
)
from fivenines.control.controllers import (
    clock,
    draining,
    health,
    journal_care,
    outliers,
    replacement,
    standby,
    traffic,
)
from fivenines.control.desired import Desired, Role
from fivenines.control.observed import MemberSeen, Observed, ServerSeen, WorkloadSeen
from tests.unit.control.situations import (
    DOWN,
    LOST_ONE,
    NAMES,
    NOW,
    A,
    B,
    C,
    all_see,
    desired,
    observed,
    order,
    phases,
    probes,
    report,
    state,
)

# --- health ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "seen", "expected"),
    [
        ("all are well", observed(), {}),
        ("all see it down", observed(sees=all_see(C, DOWN)), {C: "down"}),
        ("two see it down, it says nothing", observed(sees=all_see(C, DOWN, A, B), silent=[C]), {C: "down"}),
        ("one sees it down", observed(sees=all_see(C, DOWN, A)), {}),
        ("one sees it down, it says nothing", observed(sees=all_see(C, DOWN, A), silent=[C]), {}),
        ("two that say nothing saw it down", observed(sees=all_see(C, DOWN), silent=[A, B]), {}),
        ("it says nothing and is seen up", observed(silent=[C]), {}),
        ("one probe is lost by all", observed(sees=all_see(C, LOST_ONE)), {}),
        ("nobody has probed yet", observed(sees=all_see(C, probes())), {}),
        ("one failed probe at the very start", observed(sees=all_see(C, probes(False))), {}),
        ("all look down", observed(sees={name: dict.fromkeys(NAMES, DOWN) for name in NAMES}), {}),
        (
            "two are down: both go, one after the other",
            observed(sees={name: {B: DOWN, C: DOWN} for name in NAMES}),
            {B: "down", C: "down"},
        ),
        (
            "the last that serves",
            observed(
                sees={name: {A: DOWN, B: DOWN} for name in NAMES},
                states=[state(B, "down", age_s=1), state(C, "evacuated")],
            ),
            {},
        ),
        ("it is on its way back", observed(sees=all_see(C, DOWN), states=[state(C, "reads", age_s=1)]), {C: "down"}),
        ("a standby", observed(sees=all_see(C, DOWN), states=[state(C, "standby")]), {C: "down"}),
        ("it is out already", observed(sees=all_see(C, DOWN), states=[state(C, "evacuated")]), {}),
    ],
)
def test_a_region_goes_down_when_a_majority_sees_it_and_another_serves(
    what: str, seen: Observed, expected: dict[str, str]
) -> None:
    assert phases(health.decide(desired(), seen, NOW)) == expected, what


BACK = state(C, "down", age_s=6.0, downs=(NOW - 6,))


@pytest.mark.parametrize(
    ("what", "seen", "expected"),
    [
        ("seen up, and its time is over", observed(states=[BACK]), {C: "reads"}),
        ("too early", observed(states=[state(C, "down", age_s=4.0, downs=(NOW,))]), {}),
        ("its second time is longer", observed(states=[state(C, "down", age_s=6.0, downs=(NOW, NOW))]), {}),
        ("... and over", observed(states=[state(C, "down", age_s=10.0, downs=(NOW, NOW))]), {C: "reads"}),
        (
            "never longer than two minutes",
            observed(states=[state(C, "down", age_s=120, downs=(NOW,) * 16)]),
            {C: "reads"},
        ),
        ("only one sees it up", observed(states=[BACK], sees=all_see(C, DOWN, B, C)), {}),
        ("two see it up", observed(states=[BACK], silent=[C]), {C: "reads"}),
        ("answered too few times", observed(states=[BACK], sees=all_see(C, probes(False, True, True, True))), {}),
        (
            "nobody else that serves is well: at once",
            observed(states=[state(C, "down", age_s=0.5, downs=(NOW,))], sees={n: {A: DOWN, B: DOWN} for n in NAMES}),
            {B: "down", C: "serving"},
        ),
    ],
)
def test_a_region_comes_back_when_its_time_is_over(what: str, seen: Observed, expected: dict[str, str]) -> None:
    found = {r: p for r, p in phases(health.decide(desired(), seen, NOW)).items() if r == C or len(expected) == 1}
    assert found == {r: p for r, p in expected.items() if r == C or len(expected) == 1}, what


def test_downs_are_counted_until_it_has_served_for_long() -> None:
    def downs(age_s: float) -> tuple[float, ...]:
        seen = observed(sees=all_see(C, DOWN), states=[state(C, age_s=age_s, downs=(1.0, 2.0))])
        (action,) = health.decide(desired(), seen, NOW)
        assert isinstance(action, SetPhase)
        return action.downs

    assert downs(60.0) == (1.0, 2.0, NOW)
    assert downs(120.0) == (NOW,)


def test_a_decision_names_what_it_was_made_from_and_why() -> None:
    (action,) = health.decide(desired(), observed(sees=all_see(C, DOWN, A, B), silent=[C]), NOW)
    assert isinstance(action, SetPhase)
    assert action.seen_revision == 7
    assert action.reason == f"2 of 3 regions see it down ({A}, {B}: no answer); {C} silent"


# --- traffic ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "wanted", "seen", "expected"),
    [
        ("all serve", desired(), observed(), {}),
        ("reads for long enough", desired(), observed(states=[state(C, "reads", age_s=3.0)]), {C: "few"}),
        ("few for long enough", desired(), observed(states=[state(C, "few", age_s=3.0)]), {C: "serving"}),
        ("too early", desired(), observed(states=[state(C, "reads", age_s=2.9)]), {}),
        ("not well", desired(), observed(states=[state(C, "few", age_s=9)], sees=all_see(C, LOST_ONE)), {}),
        ("ordered out", desired(order("evacuate", B)), observed(), {B: "evacuated"}),
        ("it is out", desired(order("evacuate", B)), observed(states=[state(B, "evacuated")]), {}),
        (
            "ordered out while down",
            desired(order("evacuate", B)),
            observed(states=[state(B, "down")]),
            {B: "evacuated"},
        ),
        ("the order is gone", desired(), observed(states=[state(B, "evacuated")]), {B: "reads"}),
        ("... and it is down", desired(), observed(states=[state(B, "evacuated")], sees=all_see(B, DOWN)), {}),
        ("a standby returns", desired(standby=[C]), observed(states=[state(C, "evacuated")]), {C: "standby"}),
        ("a standby that steps back", desired(standby=[C]), observed(states=[state(C, "few", age_s=9)]), {}),
        (
            "a standby that was promoted",
            desired(standby=[C]),
            observed(states=[state(C, "few", age_s=9, promoted=True)]),
            {C: "serving"},
        ),
    ],
)
def test_regions_come_and_go_by_steps(what: str, wanted: Desired, seen: Observed, expected: dict[str, str]) -> None:
    assert phases(traffic.decide(wanted, seen, NOW)) == expected, what


def test_regions_begin_as_they_are_declared() -> None:
    begun = phases(traffic.decide(desired(standby=[C]), Observed(here=A), NOW))
    assert begun == {A: "serving", B: "serving", C: "standby"}


# --- standbys --------------------------------------------------------------------------------------------------------

STANDBY = state(C, "standby")
LOST_B = state(B, "down", age_s=1)
PROMOTED = state(C, "serving", promoted=True)


@pytest.mark.parametrize(
    ("what", "wanted", "seen", "expected"),
    [
        ("all actives serve", desired(standby=[C]), observed(states=[STANDBY]), {}),
        ("one is lost", desired(standby=[C]), observed(states=[STANDBY, LOST_B]), {C: "few"}),
        (
            "all are lost",
            desired(standby=[B, C]),
            observed(states=[state(A, "down"), state(B, "standby"), STANDBY]),
            {B: "serving"},
        ),
        ("it is not well", desired(standby=[C]), observed(states=[STANDBY, LOST_B], sees=all_see(C, DOWN)), {}),
        ("by order", desired(order("promote", C), standby=[C]), observed(states=[STANDBY]), {C: "few"}),
        (
            "by rank",
            desired(standby=[B, C]),
            observed(states=[state(A, "down"), state(B, "standby"), state(C, "standby")]),
            {B: "serving"},
        ),
        ("it helps, and all is well again", desired(standby=[C]), observed(states=[PROMOTED]), {C: "few"}),
        ("... but not for long", desired(standby=[C]), observed(states=[PROMOTED, state(B, age_s=9)]), {}),
        ("... but B comes only back", desired(standby=[C]), observed(states=[PROMOTED, state(B, "few")]), {}),
        ("... but it was ordered", desired(order("promote", C), standby=[C]), observed(states=[PROMOTED]), {}),
        ("it steps back", desired(standby=[C]), observed(states=[state(C, "few", age_s=3)]), {C: "standby"}),
        ("a moment later", desired(standby=[C]), observed(states=[state(C, "few", age_s=1)]), {}),
        ("it is declared active now", desired(), observed(states=[STANDBY]), {C: "reads"}),
    ],
)
def test_standbys_are_promoted_and_step_back(
    what: str, wanted: Desired, seen: Observed, expected: dict[str, str]
) -> None:
    assert phases(standby.decide(wanted, seen, NOW)) == expected, what


# --- a region without nodes -------------------------------------------------------------------------------------------


def test_a_region_without_nodes_does_not_serve_whatever_its_state_says() -> None:
    wanted = desired(peak_per_s=0.0)
    without = replace(wanted.regions[2], capacity_per_s=0.0)
    wanted = replace(wanted, regions=(*wanted.regions[:2], without))
    unprobed = {name: {A: LOST_ONE, B: DOWN, C: probes()} for name in NAMES}
    seen = observed(sees=unprobed, states=[state(A, "down", age_s=1)])
    assert phases(health.decide(wanted, seen, NOW)) == {}, "the last that serves"
    everywhere = observed(sees={name: {A: DOWN, B: DOWN, C: probes()} for name in NAMES})
    assert phases(health.decide(wanted, everywhere, NOW)) == {}, "all look down at once"
    assert phases(health.decide(wanted, observed(sees=all_see(C, DOWN)), NOW)) == {}

    out = replace(wanted, orders=(order("evacuate", C),))
    assert phases(traffic.decide(out, observed(), NOW)) == {}

    helped = replace(wanted, regions=(wanted.regions[0], replace(wanted.regions[1], mode="standby"), without))
    gone = observed(states=[state(B, "standby"), state(C, "evacuated")])
    assert phases(standby.decide(helped, gone, NOW)) == {}, "nothing was lost"
    lost = observed(states=[state(A, "down"), state(B, "standby")])
    assert phases(standby.decide(helped, lost, NOW)) == {B: "serving"}, "nobody else serves"


# --- replacement -----------------------------------------------------------------------------------------------------


def work(name: str, now: str, *, role: Role = "node", unready_s: float = 0.0, **options: Any) -> WorkloadSeen:
    return WorkloadSeen(name=f"{A}-{name}", role=role, state=now, since=0, unready_s=unready_s, **options)  # type: ignore[arg-type]


def at_a(*workloads: WorkloadSeen, servers: tuple[ServerSeen, ...] = (), **options: Any) -> Observed:
    own = report(A, workloads=workloads, servers=servers, requests_per_s=options.pop("requests_per_s", 100.0))
    return observed(reports={A: own}, **options)


WELL_2 = work("2", "ready")


@pytest.mark.parametrize(
    ("what", "seen", "expected"),
    [
        ("all are ready", at_a(work("1", "ready"), WELL_2), []),
        ("it fails to start", at_a(work("1", "backoff", unready_s=20, failed_starts=3), WELL_2), [f"{A}-1"]),
        ("not for long", at_a(work("1", "backoff", unready_s=19, failed_starts=3), WELL_2), []),
        ("its first start takes long", at_a(work("1", "starting", unready_s=90), WELL_2), []),
        ("unready while its peer is ready", at_a(work("1", "unready", unready_s=20), WELL_2), [f"{A}-1"]),
        ("catching up", at_a(work("1", "unready", unready_s=90, stalled_s=0.5), WELL_2), []),
        ("it does not move", at_a(work("1", "unready", unready_s=90, stalled_s=20), WELL_2), [f"{A}-1"]),
        ("all are unready", at_a(work("1", "unready", unready_s=20), work("2", "unready", unready_s=20)), []),
        (
            "one at a time, the longest first",
            at_a(*(work(n, "backoff", unready_s=20 + int(n), failed_starts=5) for n in ("1", "2"))),
            [f"{A}-2"],
        ),
        (
            "a member of the journal",
            at_a(work("journal", "backoff", role="journal", unready_s=90, failed_starts=9)),
            [],
        ),
        (
            "another is under way",
            at_a(work("1", "backoff", unready_s=20, failed_starts=3), under_way=frozenset({"x"})),
            [],
        ),
        ("what nobody declared", at_a(work("9", "backoff", unready_s=20, failed_starts=3)), []),
    ],
)
def test_what_cannot_be_brought_back_is_begun_anew(what: str, seen: Observed, expected: list[str]) -> None:
    found = replacement.decide(desired(), seen, NOW)
    assert [a.workload for a in found if isinstance(a, ReplaceWorkload)] == expected, what


def test_what_was_begun_anew_in_vain_is_told() -> None:
    seen = at_a(work("1", "backoff", unready_s=50, failed_starts=3, replaced_s=50.0))
    (found,) = replacement.decide(desired(), seen, NOW)
    assert isinstance(found, RaiseIncident)
    assert (found.kind, found.target) == ("workload", f"{A}-1")
    busy = at_a(*seen.reports[A].workloads, under_way=frozenset({f"{A}-1"}))
    assert replacement.decide(desired(), busy, NOW) == [], "it is being begun anew just now"


# --- the journal's members -------------------------------------------------------------------------------------------


def member(number: int, *, away_s: float = 0.0, **options: Any) -> MemberSeen:
    given: dict[str, Any] = {"name": NAMES[number - 1], "region": NAMES[number - 1]} | options
    return MemberSeen(id=number, is_reachable=away_s == 0, away_s=away_s, **given)


def journal(
    *members: MemberSeen, dead: tuple[str, ...] = (C,), silent: tuple[str, ...] = (), **options: Any
) -> Observed:
    """What the leader knows; `dead`: where the agent says that its member does not run."""
    reports = {
        name: report(
            name,
            workloads=(
                WorkloadSeen(
                    name=f"{name}-journal", role="journal", state="backoff" if name in dead else "ready", since=0
                ),
            ),
            age_s=60.0 if name in silent else 0.0,
        )
        for name in NAMES
    }
    return observed(members=members, reports=reports, **({"is_leader": True} | options))


def heard_anew(state: str | None, *, heard_s: float, away_s: float = 120.0) -> Observed:
    """One member away, and what its region says, `heard_s` after it began to say anything again; None: nothing."""
    seen = journal(*WELL, member(3, away_s=away_s))
    own = seen.reports[C].workloads if state is not None else ()
    workloads = tuple(replace(each, state=state or each.state) for each in own)
    told = replace(seen.reports[C], age_s=0.1, heard_s=heard_s, workloads=workloads)
    return replace(seen, reports={**seen.reports, C: told})


WELL = (member(1), member(2))


@pytest.mark.parametrize(
    ("what", "seen", "expected"),
    [
        ("all are well", journal(*WELL, member(3), dead=()), []),
        ("one is lost", journal(*WELL, member(3, away_s=60)), [(RemoveMember, 3)]),
        ("not for long", journal(*WELL, member(3, away_s=59)), []),
        ("we do not lead", journal(*WELL, member(3, away_s=60), is_leader=False), []),
        ("its region says nothing", journal(*WELL, member(3, away_s=60), silent=(C,)), []),
        ("it runs, and is only not reached", journal(*WELL, member(3, away_s=60), dead=()), []),
        ("two are lost", journal(member(1), member(2, away_s=60), member(3, away_s=60), dead=(B, C)), []),
        ("it was taken out", journal(*WELL), [(AddMember, C)]),
        ("... and its region says nothing", journal(*WELL, silent=(C,)), []),
        ("one of two is away", journal(member(1), member(2, away_s=60), dead=(B,)), []),
        ("one alone stays as it is", journal(member(1), dead=(B, C)), []),
        ("it was let in and has not started", journal(*WELL, member(3, away_s=60, name="")), []),
        ("... for too long", journal(*WELL, member(3, away_s=90, name="")), [(RemoveMember, 3)]),
        ("its region is back, and it starts", heard_anew("starting", heard_s=0.0), []),
        ("... and is not ready", heard_anew("unready", heard_s=59.0), []),
        ("... for too long, while heard", heard_anew("unready", heard_s=60.0), [(RemoveMember, 3)]),
        ("heard, and away for a short time", heard_anew("unready", heard_s=900.0, away_s=59.0), []),
        ("its region tells of no workload", heard_anew(None, heard_s=900.0), []),
    ],
)
def test_a_lost_member_is_replaced_with_a_majority_at_all_times(
    what: str, seen: Observed, expected: list[tuple[type, object]]
) -> None:
    found = journal_care.decide(desired(), seen, NOW)
    named = [(type(a), a.id if isinstance(a, RemoveMember) else getattr(a, "region", None)) for a in found]
    assert named == expected, what


def test_a_member_that_was_let_in_is_started_by_its_own_region() -> None:
    members = (*WELL, member(3, away_s=1, name=""))
    (found,) = journal_care.decide(desired(), journal(*members, here=C, is_leader=False), NOW)
    assert found == ReplaceWorkload(reason="the journal has let a new member in here", workload=f"{C}-journal")
    assert journal_care.decide(desired(), journal(*members, here=B, is_leader=False), NOW) == []
    busy = journal(*members, here=C, is_leader=False, under_way=frozenset({f"{C}-journal"}))
    assert journal_care.decide(desired(), busy, NOW) == []


def test_people_are_told_when_the_majority_is_gone() -> None:
    assert journal_care.decide(desired(), observed(has_majority=False, alone_s=2.0), NOW) == []
    (found,) = journal_care.decide(desired(), observed(has_majority=False, alone_s=3.0), NOW)
    assert isinstance(found, RaiseIncident)
    assert found.kind == "journal_majority"


# --- outliers --------------------------------------------------------------------------------------------------------


def server(number: int, **options: Any) -> ServerSeen:
    given: dict[str, Any] = {
        "is_up": True,
        "weight": 100,
        "requests": 5_000,
        "errors": 0,
        "latency_ms": 10.0,
        "in_flight": 1,
        "pool": "ledger",
        "requests_recent": 200,
        "weight_s": 60.0,
    } | options
    return ServerSeen(name=f"{A}-{number}", **given)


SLOW = server(1, latency_ms=300.0)
OUT = server(1, weight=0, weight_s=10.0, ejections=1)


@pytest.mark.parametrize(
    ("what", "servers", "expected"),
    [
        ("all alike", (server(1), server(2)), {}),
        ("one is slow", (SLOW, server(2)), {1: 0}),
        ("one is slow, of three", (SLOW, server(2), server(3)), {1: 0}),
        ("a little slower", (server(1, latency_ms=39.0), server(2)), {}),
        ("many times slower, by little", (server(1, latency_ms=40.0), server(2, latency_ms=1.0)), {}),
        ("all are slow", (SLOW, server(2, latency_ms=290.0)), {}),
        ("fails", (server(1, errors_recent=40), server(2)), {1: 0}),
        ("all fail", (server(1, errors_recent=40), server(2, errors_recent=30)), {}),
        ("asked too little", (server(1, latency_ms=300.0, requests_recent=9), server(2)), {}),
        ("only just up", (server(1, latency_ms=300.0, up_s=14.9), server(2)), {}),
        ("only just up, and fails", (server(1, errors_recent=40, up_s=1.0), server(2)), {1: 0}),
        ("tried, and only just up", (server(1, weight=10, weight_s=9.0, up_s=9.0), server(2)), {}),
        ("up for long enough", (server(1, latency_ms=300.0, up_s=15.0), server(2)), {1: 0}),
        ("alone", (SLOW,), {}),
        ("its only peer is down", (SLOW, server(2, is_up=False)), {}),
        ("its only peer is out", (SLOW, server(2, weight=0, weight_s=1.0, ejections=1)), {}),
        ("two of three are slow", (SLOW, server(2, latency_ms=300.0), server(3)), {}),
        ("two of five are slow", (SLOW, server(2, latency_ms=300.0), server(3), server(4), server(5)), {1: 0, 2: 0}),
        ("out, and its time is over", (OUT, server(2)), {1: outliers.PROBE_PERCENT}),
        ("out, too early", (server(1, weight=0, weight_s=9.9, ejections=1), server(2)), {}),
        ("out for the second time", (server(1, weight=0, weight_s=19.0, ejections=2), server(2)), {}),
        ("tried, and well", (server(1, weight=10, weight_s=5.0, latency_recent_ms=10.0), server(2)), {1: 100}),
        (
            "tried, its old mean does not count",
            (server(1, weight=10, weight_s=5.0, latency_ms=300.0), server(2)),
            {1: 100},
        ),
        ("tried, and slow", (server(1, weight=10, weight_s=2.0, latency_recent_ms=300.0), server(2)), {1: 0}),
    ],
)
def test_a_server_that_stands_out_is_taken_out_and_tried_again(
    what: str, servers: tuple[ServerSeen, ...], expected: dict[int, int]
) -> None:
    found = outliers.decide(desired(), at_a(servers=servers), NOW)
    weights = {int(a.workload[-1]): a.percent for a in found if isinstance(a, SetNodeWeight)}
    assert weights == expected, what


def test_nobody_is_taken_out_when_the_others_could_not_carry_it() -> None:
    seen = at_a(servers=(SLOW, server(2)), requests_per_s=200.0)
    assert outliers.decide(desired(), seen, NOW) == [], "one of two carries 150 of the region's 300"


def test_servers_are_compared_with_those_of_their_own_pool() -> None:
    servers = (server(1, pool="ledger"), server(2, pool="ledger"), server(3, pool="app", latency_ms=500.0))
    assert outliers.decide(desired(), at_a(servers=servers), NOW) == []


# --- draining, clocks ------------------------------------------------------------------------------------------------


def test_nodes_are_drained_by_order_and_put_back() -> None:
    wanted = desired(order("drain", f"{A}-1", why="new disk"))
    (found,) = draining.decide(wanted, at_a(work("1", "ready"), WELL_2), NOW)
    assert found == DrainNode(reason="ann ordered it: new disk", workload=f"{A}-1")
    drained = at_a(work("1", "ready", is_drained=True), WELL_2)
    assert draining.decide(wanted, drained, NOW) == []
    (found,) = draining.decide(desired(), drained, NOW)
    assert isinstance(found, UndrainNode)


@pytest.mark.parametrize(
    ("what", "skews", "expected"),
    [
        ("all agree", {A: {B: 20, C: -30}, B: {A: -20, C: -40}, C: {A: 30, B: 40}}, []),
        ("one is ahead", {A: {B: 0, C: 900}, B: {A: 0, C: 900}, C: {A: -900, B: -900}}, [C]),
        ("one says so alone", {A: {B: 0, C: 0}, B: {A: 0, C: 900}, C: {A: 0, B: 0}}, []),
        ("nobody knows", {A: {}, B: {}, C: {}}, []),
    ],
)
def test_the_clock_that_is_wrong_is_told(what: str, skews: dict[str, dict[str, float]], expected: list[str]) -> None:
    reports = {name: report(name, skew_ms=skew) for name, skew in skews.items()}
    found = clock.decide(desired(), observed(reports=reports, is_leader=True), NOW)
    assert [a.target for a in found if isinstance(a, RaiseIncident)] == expected, what
    assert clock.decide(desired(), observed(reports=reports), NOW) == [], "only the leader tells"
