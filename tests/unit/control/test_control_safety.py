from typing import Any

import pytest
from msgspec.structs import replace

from fivenines.control.actions import (
    Action,
    AddMember,
    DrainNode,
    RaiseIncident,
    RemoveMember,
    ReplaceWorkload,
    SetNodeWeight,
    SetPhase,
)
from fivenines.control.deciding import CONTROLLERS, decide, explain, explain_taken_back
from fivenines.control.desired import Desired
from fivenines.control.observed import MemberSeen, Observed, Phase, ServerSeen
from fivenines.control.safety import hold_back
from tests.unit.control.situations import (
    DOWN,
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


def to(region: str, phase: Phase, **options: Any) -> SetPhase:
    share = {"serving": 1.0, "few": 0.25, "reads": 0.05}.get(phase, 0.0)
    given: dict[str, Any] = {"reason": "test", "share": share, "seen_revision": 7} | options
    return SetPhase(region=region, phase=phase, **given)


def without_nodes(name: str) -> Desired:
    wanted = desired()
    return replace(
        wanted, regions=tuple(replace(r, capacity_per_s=0.0) if r.name == name else r for r in wanted.regions)
    )


TWO_DOWN = observed(states=[state(A, "down", age_s=1, downs=(1.0,)), state(B, "down", age_s=1, downs=(1.0,))])
SERVERS = tuple(
    ServerSeen(name=f"{A}-{n}", is_up=True, weight=100, requests=1, errors=0, latency_ms=1.0, in_flight=0, pool="nodes")
    for n in (1, 2)
)
POOL = observed(reports={A: report(A, servers=SERVERS)})
MEMBERS = tuple(
    MemberSeen(id=n, name=name, region=name, is_reachable=n < 3, away_s=0.0 if n < 3 else 90.0)
    for n, name in enumerate(NAMES, start=1)
)


@pytest.mark.parametrize(
    ("what", "action", "seen", "wanted", "reason"),
    [
        ("down, others serve", to(C, "down"), observed(), desired(), ""),
        ("down, the last", to(C, "down"), TWO_DOWN, desired(), "it is the last region that serves"),
        (
            "down, and a region without nodes is left",
            to(B, "down"),
            observed(states=[state(A, "down", age_s=1)], sees={n: {C: probes()} for n in NAMES}),
            without_nodes(C),
            "it is the last region that serves",
        ),
        (
            "down, the others are no better",
            to(C, "down"),
            observed(sees={n: {A: DOWN, B: DOWN} for n in NAMES}),
            desired(),
            "it is the last region",
        ),
        ("an old view", to(C, "down", seen_revision=6), observed(), desired(), "not the newest"),
        ("out, the rest carries the peak", to(C, "evacuated"), observed(), desired(), ""),
        ("out, the rest does not", to(C, "evacuated"), observed(), desired(peak_per_s=601.0), "the peak is 601"),
        ("out, one is down", to(C, "evacuated"), observed(states=[state(B, "down")]), desired(), "300 requests/s"),
        ("out, one comes back", to(C, "evacuated"), observed(states=[state(B, "few")]), desired(), "300 requests/s"),
        ("out, the last", to(C, "evacuated"), TWO_DOWN, desired(), "it is the last region that serves"),
        ("out, no peak declared", to(C, "evacuated"), observed(), desired(peak_per_s=0.0), ""),
        (
            "out, no peak declared, one is down",
            to(C, "evacuated"),
            observed(states=[state(B, "down")]),
            desired(peak_per_s=0.0),
            "1 of 2",
        ),
        ("out, though it is down", to(B, "evacuated"), observed(states=[state(B, "down")]), desired(), ""),
        (
            "back too early",
            to(C, "reads"),
            observed(states=[state(C, "down", age_s=4.9)]),
            desired(),
            "stays so for 5 s",
        ),
        ("back in time", to(C, "reads"), observed(states=[state(C, "down", age_s=5.0)]), desired(), ""),
        (
            "back early where nobody is well",
            to(C, "serving"),
            observed(states=[state(C, "down", age_s=1)], sees={n: {A: DOWN, B: DOWN} for n in NAMES}),
            desired(),
            "",
        ),
        ("without a majority", to(C, "down"), observed(has_majority=False), desired(), "without a majority"),
        (
            "a weight without a majority",
            SetNodeWeight(reason="", workload="x", percent=50),
            observed(has_majority=False),
            desired(),
            "without a majority",
        ),
        (
            "telling without a majority",
            RaiseIncident(reason="", kind="region", target=A),
            observed(has_majority=False),
            desired(),
            "",
        ),
        ("a node of two", DrainNode(reason="", workload=f"{A}-1"), POOL, desired(), ""),
        (
            "a member that is lost",
            RemoveMember(reason="", id=3, name=C),
            observed(members=MEMBERS, is_leader=True),
            desired(),
            "",
        ),
        (
            "... by one who does not lead",
            RemoveMember(reason="", id=3, name=C),
            observed(members=MEMBERS),
            desired(),
            "leads",
        ),
        (
            "a member that is well",
            RemoveMember(reason="", id=2, name=B),
            observed(members=MEMBERS, is_leader=True),
            desired(),
            "is well",
        ),
        (
            "one of two",
            RemoveMember(reason="", id=3, name=C),
            observed(members=MEMBERS[1:], is_leader=True),
            desired(),
            "no majority",
        ),
        (
            "a new one beside two",
            AddMember(reason="", region=C),
            observed(members=MEMBERS[:2], is_leader=True),
            desired(),
            "",
        ),
        (
            "a new one before the lost is out",
            AddMember(reason="", region=C),
            observed(members=MEMBERS, is_leader=True),
            desired(),
            "no majority",
        ),
    ],
)
def test_what_must_not_be_is_held_back(what: str, action: Action, seen: Observed, wanted: Desired, reason: str) -> None:
    allowed, refused = hold_back([action], wanted, seen, NOW)
    if reason:
        assert allowed == [], what
        assert reason in refused[0].reason, what
        assert not refused[0].is_deferred
    else:
        assert allowed == [action], f"{what}: {refused}"


def test_an_override_passes_and_is_told() -> None:
    (action,), refused = hold_back([to(C, "evacuated", override=True)], desired(peak_per_s=601.0), observed(), NOW)
    assert refused == []
    assert action.reason.startswith("test [safety overridden: those that remain")
    assert hold_back([to(C, "evacuated", override=True)], desired(), observed(has_majority=False), NOW)[0] == []


def test_the_last_node_of_a_pool_stays() -> None:
    both: list[Action] = [DrainNode(reason="", workload=f"{A}-{n}") for n in (1, 2)]
    allowed, refused = hold_back(both, desired(), POOL, NOW)
    assert allowed == both[:1]
    assert "it is the last of nodes" in refused[0].reason


def test_a_node_that_its_edge_sends_nothing_does_not_stand_for_the_last_one() -> None:
    servers = (SERVERS[0], replace(SERVERS[1], is_drained=True))
    held_out = observed(reports={A: report(A, servers=servers)})
    allowed, refused = hold_back([DrainNode(reason="", workload=f"{A}-1")], desired(), held_out, NOW)
    assert allowed == []
    assert "it is the last of nodes" in refused[0].reason


def test_regions_members_and_workloads_change_one_at_a_time() -> None:
    seen = observed(members=MEMBERS[:2], is_leader=True)
    actions: list[Action] = [
        to(B, "reads", share=1.0),
        to(C, "down"),
        AddMember(reason="", region=C),
        AddMember(reason="", region=B),
        ReplaceWorkload(reason="", workload="x"),
        ReplaceWorkload(reason="", workload="y"),
    ]
    allowed, refused = hold_back(actions, desired(), seen, NOW)
    assert allowed == [actions[1], actions[2], actions[4]], "a region that is down comes first"
    assert all(r.is_deferred for r in refused)


def test_two_regions_that_are_down_go_one_after_the_other_and_the_last_stays() -> None:
    seen = observed(sees={name: dict.fromkeys((B, C), DOWN) for name in NAMES})
    first = decide(desired(), seen, NOW)
    assert phases(first.actions) == {B: "down"}
    assert [r.is_deferred for r in first.refused] == [True]


def test_explain_tells_what_an_order_would_bring_about() -> None:
    told = explain([order("evacuate", C, why="maintenance")], desired(), observed(), NOW)
    assert phases(told.actions) == {C: "evacuated"}
    assert told.actions[0].reason == "ann ordered it: maintenance"
    assert told.refused == ()


def test_explain_tells_what_safety_would_refuse() -> None:
    told = explain([order("evacuate", C)], desired(), observed(states=[state(B, "down", age_s=1)]), NOW)
    assert told.actions == ()
    assert "the peak is 500" in told.refused[0].reason
    forced = explain(
        [order("evacuate", C, override=True)], desired(), observed(states=[state(B, "down", age_s=1)]), NOW
    )
    assert "safety overridden" in forced.actions[0].reason


def test_explain_tells_what_it_would_bring_about_to_take_an_order_back() -> None:
    given = order("evacuate", C)
    wanted = replace(desired(), orders=(given,))
    told = explain_taken_back([given], wanted, observed(states=[state(C, "evacuated")]), NOW)
    assert phases(told.actions) == {C: "reads"}
    assert "was taken back" in told.actions[0].reason
    assert (
        explain_taken_back([order("evacuate", B)], wanted, observed(states=[state(C, "evacuated")]), NOW).actions == ()
    )


def test_explain_leaves_out_what_is_decided_anyway() -> None:
    told = explain([order("drain", "nobody")], desired(), observed(sees=all_see(C, DOWN)), NOW)
    assert told.actions == ()


def test_a_controller_that_fails_does_not_keep_the_others_from_deciding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[Action]:
        raise RuntimeError("a bug")

    monkeypatch.setitem(CONTROLLERS, "outliers", broken)
    found = decide(desired(), observed(sees=all_see(C, DOWN)), NOW)
    assert phases(found.actions) == {C: "down"}
    assert [name for name, _ in found.failed] == ["outliers"]
