from random import Random
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fivenines.control.controllers.traffic import SHARES
from fivenines.control.observed import Observed, Probes
from fivenines.control.steer import steer
from fivenines.traffic.steering import choose, is_served
from fivenines.traffic.table import Policy, SteeredRegion, SteeringTable
from tests.unit.control.situations import NAMES, A, B, C, desired, observed, report, state

DECLARED = SteeringTable(
    zone="bank.test",
    serial=0,
    here=A,
    regions=tuple(SteeredRegion(name=name, addresses=("127.0.0.1",), nameserver="127.0.0.1") for name in NAMES),
)


def shares(table: SteeringTable | None) -> dict[str, float]:
    assert table is not None
    return {region.name: region.share for region in table.regions}


def seen_after(latency_ms: float) -> Observed:
    return observed(reports={A: report(A, {B: Probes(recent=(True,), latency_ms=latency_ms)})})


def test_shares_are_those_that_all_agreed_on() -> None:
    table = steer(DECLARED, desired(), observed(states=[state(B, "few"), state(C, "down")]), None)
    assert shares(table) == {A: 1.0, B: 0.25, C: 0.0}
    assert table is not None
    assert table.serial == 1


def test_a_table_stays_the_same_while_nothing_changes() -> None:
    first = steer(DECLARED, desired(), observed(), None)
    assert steer(DECLARED, desired(), observed(), first) is first


def test_the_serial_goes_up_with_each_change() -> None:
    first = steer(DECLARED, desired(), observed(), None)
    second = steer(DECLARED, desired(), observed(states=[state(C, "down")]), first)
    assert first is not None
    assert second is not None
    assert second.serial == first.serial + 1


def test_without_a_majority_the_table_stays() -> None:
    first = steer(DECLARED, desired(), observed(), None)
    blind = observed(states=[state(C, "down")], has_majority=False)
    assert steer(DECLARED, desired(), blind, first) is first
    assert steer(DECLARED, desired(), blind, None) is None


def test_where_nobody_has_a_share_the_last_ones_stay() -> None:
    none = observed(states=[state(name, "down") for name in NAMES])
    first = steer(DECLARED, desired(), observed(states=[state(C, "down")]), None)
    assert shares(steer(DECLARED, desired(), none, first)) == {A: 1.0, B: 1.0, C: 0.0}
    assert shares(steer(DECLARED, desired(standby=[C]), none, None)) == {A: 1.0, B: 1.0, C: 0.0}


def weighing(*weights: float, policy: Policy = "weighted") -> SteeringTable:
    regions = tuple(
        replace(each, weight=weight, rank=rank, addresses=(f"127.0.{rank + 1}.1",))
        for rank, (each, weight) in enumerate(zip(DECLARED.regions, weights, strict=True))
    )
    return replace(DECLARED, regions=regions, policy=policy)


def first_answers(table: SteeringTable | None) -> set[str]:
    assert table is not None
    chance = Random(7)
    return {choose(table, None, chance)[0] for _ in range(50)}


@pytest.mark.parametrize("policy", get_args(Policy))
def test_a_lost_region_is_not_kept_because_the_promoted_standby_weighs_nothing(policy: Policy) -> None:
    declared, wanted = weighing(1.0, 0.0, 0.0, policy=policy), desired(standby=[B, C])
    standing_by = [state(B, "standby"), state(C, "standby")]
    before = steer(declared, wanted, observed(states=standing_by), None)
    assert first_answers(before) == {"127.0.1.1"}
    promoted = observed(states=[state(A, "down"), state(B, promoted=True), state(C, "standby")])
    after = steer(declared, wanted, promoted, before)
    assert shares(after) == {A: 0.0, B: 1.0, C: 0.0}
    assert first_answers(after) == {"127.0.2.1"}


def test_actives_that_weigh_nothing_share_alike_once_all_others_are_lost() -> None:
    declared = weighing(1.0, 0.0, 0.0)
    before = steer(declared, desired(), observed(), None)
    assert first_answers(before) == {"127.0.1.1"}
    after = steer(declared, desired(), observed(states=[state(A, "down")]), before)
    assert first_answers(after) == {"127.0.2.1", "127.0.3.1"}
    assert after is not None
    assert all(is_served(region) for region in after.regions if region.name != A)
    again = steer(declared, desired(), observed(), after)
    assert first_answers(again) == {"127.0.1.1"}


def test_failover_asks_for_no_weights() -> None:
    declared = weighing(0.0, 0.0, 0.0, policy="failover")
    before = steer(declared, desired(), observed(), None)
    assert first_answers(before) == {"127.0.1.1"}
    after = steer(declared, desired(), observed(states=[state(A, "down")]), before)
    assert first_answers(after) == {"127.0.2.1"}


def test_a_latency_that_hardly_changes_changes_nothing() -> None:
    first = steer(DECLARED, desired(), seen_after(10.0), None)
    assert first is not None
    assert {r.name: r.latency_ms for r in first.regions}[B] == 10.0
    assert steer(DECLARED, desired(), seen_after(12.0), first) is first
    second = steer(DECLARED, desired(), seen_after(20.0), first)
    assert second is not None
    assert {r.name: r.latency_ms for r in second.regions}[B] == 20.0


@given(
    st.lists(
        st.tuples(
            st.tuples(*[st.sampled_from(sorted(SHARES))] * 3),
            st.booleans(),
        ),
        max_size=12,
    )
)
def test_no_table_gives_everybody_nothing(script: list[tuple[tuple[str, ...], bool]]) -> None:
    table: SteeringTable | None = None
    for found, has_majority in script:
        states = [state(name, phase) for name, phase in zip(NAMES, found, strict=True)]  # type: ignore[arg-type]
        after = steer(DECLARED, desired(), observed(states=states, has_majority=has_majority), table)
        if table is not None:
            assert after is not None
            assert after.serial == table.serial + (after is not table)
            assert (replace(after, serial=0) == replace(table, serial=0)) is (after is table)
        if after is not None:
            assert any(region.share > 0 for region in after.regions)
        table = after
