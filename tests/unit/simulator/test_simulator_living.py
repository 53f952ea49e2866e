import pytest
from msgspec.structs import replace

from fivenines.control.deciding import decide
from fivenines.drill.simulator import SettingError, judge, live, what_if
from fivenines.drill.simulator.faults import YEAR_S
from fivenines.drill.simulator.living import OVERLAP
from fivenines.drill.simulator.rates import Lasts, built_in
from fivenines.drill.simulator.whatif import changes
from tests.unit.simulator.simulated import never_evacuates, regions, simulated

_STANDBY = """\
platform: x
regions:
  - {name: a, provider: p}
  - {name: b, provider: q}
  - {name: c, provider: q, mode: standby}
"""


def test_the_same_seed_lives_the_same_years_and_another_one_others() -> None:
    setting = simulated("region_lost", "node_crash", "member_crash", "bad_deploy")
    first = judge(setting, live(setting, 5, 3), seed=5)
    assert first == judge(setting, live(setting, 5, 3), seed=5)
    assert first.others.causes != judge(setting, live(setting, 6, 3), seed=6).others.causes


def test_a_controller_that_never_evacuates_makes_it_clearly_worse() -> None:
    setting = simulated("region_lost", "region_cut")
    real, broken = (live(setting, 1, 20, decide=how) for how in (decide, never_evacuates))
    lost, lost_then = (sum(year.others for year in lived.years) for lived in (real, broken))
    assert real.faults == broken.faults
    assert lost_then > 50 * lost > 0


def test_nothing_is_lost_where_nothing_goes_wrong() -> None:
    setting = simulated("maintenance")
    lived = live(setting, 1, 10)
    assert lived.faults["maintenance"] > 20
    assert sum(year.others + year.ours for year in lived.years) == 0


def test_planned_work_alone_costs_nothing_and_clients_of_ours_never_lose_more_than_others_by_a_region() -> None:
    setting = simulated("region_lost", "clients_cut", is_pausing=False)
    for year in live(setting, 3, 20).years:
        assert year.ours <= year.others


def test_two_losses_at_once_are_told_apart_from_each_one() -> None:
    table = built_in().only("region_lost").with_fault("region_lost", per_year=100.0, lasts=Lasts(mean_s=86_400))
    lived = live(simulated(table=table), 1, 5)
    assert lived.majority_lost > 0
    assert sum(year.others_s.get(OVERLAP, 0.0) for year in lived.years) > 86_400
    assert {"region_lost"} == set(lived.outages[0].causes)


def test_a_journal_without_a_majority_is_not_a_platform_that_nobody_reaches() -> None:
    for kind in ("member_crash", "region_isolated"):
        table = built_in().only(kind).with_fault(kind, per_year=24.0, lasts=Lasts(mean_s=7_200))
        lived = live(simulated(table=table), 1, 40)
        assert lived.majority_lost > 0 == lived.everything_lost


def test_what_is_lost_is_counted_each_time_that_it_is_lost() -> None:
    shared = live(simulated("shared_lost"), 1, 200)
    assert shared.everything_lost == shared.faults["shared_lost"] > 1
    one_cloud = live(simulated("provider_lost", text=regions(3, providers=1)), 1, 200)
    assert one_cloud.everything_lost == one_cloud.majority_lost == one_cloud.faults["provider_lost"] > 1


def test_an_outage_is_over_when_clients_have_gone_elsewhere_and_not_when_the_fault_is() -> None:
    setting = simulated("region_lost")
    longest_s = max(outage.lasted_s for outage in live(setting, 1, 10).outages)
    assert setting.platform.traffic.ttl_s < longest_s < 10


def test_an_election_lasts_as_long_as_it_costs() -> None:
    outages = live(simulated("member_crash"), 1, 5).outages
    assert outages
    for outage in outages:
        assert outage.lasted_s == pytest.approx(outage.lost_s, abs=1e-6)


def test_requests_to_an_edge_that_ended_fail_and_those_to_a_node_are_late() -> None:
    lived = live(simulated("edge_crash", "node_crash", "node_hang", "node_slow", "node_away"), 1, 20)
    edges = sum(year.others_s["edge_crash"] for year in lived.years)
    assert lived.failed_others * YEAR_S == pytest.approx(edges)
    assert edges > 0 < sum(year.others_s["node_crash"] for year in lived.years)


def test_disks_of_a_majority_lost_at_once_are_an_event_that_loses_writes() -> None:
    table = built_in().with_fault("region_destroyed", per_year=20.0)
    lived = live(simulated("region_destroyed", table=table), 1, 5)
    assert lived.disks_lost > 0


def test_a_hundred_thousand_nodes_in_twenty_regions_are_lived_through() -> None:
    more = "peak_per_s: 1000000\ncapacity_per_node_per_s: 1000\njournal: {members: [r0, r1, r2, r3, r4]}"
    setting = simulated("node_crash", "node_away", "edge_crash", text=regions(20, more=more), nodes_per_region=5_000)
    judged = judge(setting, live(setting, 1, 3), seed=1)
    assert judged.nodes == 100_000
    crash = next(each for each in judged.others.causes if each.cause == "node_crash")
    # Each of 1,200,000 crashes a year touches a hundred-thousandth of all requests for half a second.
    assert crash.seconds_a_year.value == pytest.approx(12 * 0.5, rel=0.2)


@pytest.mark.parametrize(
    ("count", "nodes", "told"), [(21, 2, "regions: there are 21"), (20, 5_001, "nodes: there are 100,020")]
)
def test_what_is_too_large_is_refused_with_the_reason(count: int, nodes: int, told: str) -> None:
    with pytest.raises(SettingError, match=told):
        simulated(text=regions(count), nodes_per_region=nodes)


def test_changes_meet_the_same_faults_and_a_canary_saves_time() -> None:
    table = built_in().only("bad_deploy").with_fault("bad_deploy", per_year=4.0, fails=(1.0, 1.0))
    setting = simulated(table=table)
    lived = live(setting, 1, 8)
    found = {each.name: each for each in what_if(setting, lived, seed=1, budget_s=315.6)}
    assert {"canary", "notice", "detection", "region", "standby", "nodes"} == set(found)
    assert found["canary"].saves_s.low > 0
    assert "would save" in found["canary"].sentence
    assert 0 < found["notice"].saves_s.value < found["canary"].saves_s.value
    assert abs(found["nodes"].saves_s.value) < 1e-6


def test_changes_are_those_that_the_platform_leaves_open() -> None:
    names = [change.name for change in changes(simulated(text=_STANDBY, has_canary=True))]
    assert names == ["notice", "detection", "region", "provider", "active", "nodes"]


def test_a_region_costs_the_same_whatever_its_place_in_the_order() -> None:
    table = built_in().only("region_lost").with_fault("region_lost", per_year=12.0)
    setting = simulated(table=table, is_pausing=False)
    platform = setting.platform
    turned = replace(setting, platform=replace(platform, regions=platform.regions[::-1]))
    there, back = (sum(year.others for year in live(each, 1, 20).years) for each in (setting, turned))
    assert back == pytest.approx(there, rel=0.05)
