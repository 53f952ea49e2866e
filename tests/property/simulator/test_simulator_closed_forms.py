"""Cases small enough for a closed form: the simulator must say the same, within its own bounds.

Bounds are at 95 %, and hypothesis tries many seeds, so twice the width is asked for: chance alone passes that about
once in ten thousand.
"""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from fivenines.drill.simulator import judge, live
from fivenines.drill.simulator.faults import YEAR_S
from fivenines.drill.simulator.judging import Clients
from fivenines.drill.simulator.rates import Lasts, built_in
from fivenines.drill.simulator.setting import Setting
from tests.unit.simulator.simulated import simulated

_ONE = "platform: one\nregions:\n  - {name: here, provider: p}\n"
_YEARS = 150
_SEEDS = st.integers(0, 10**6)
_FEW = settings(max_examples=5, deadline=None)


def _lived(setting: Setting, seed: int) -> Clients:
    return judge(setting, live(setting, seed, _YEARS), seed=seed).others


def _agrees(found: Clients, unavailable: float) -> bool:
    bounds = found.availability
    slack = bounds.high - bounds.low
    return bounds.low - slack / 2 <= 1 - unavailable <= bounds.high + slack / 2


@_FEW
@given(seed=_SEEDS, mtbf_d=st.floats(3, 30), mttr_h=st.floats(1, 48))
def test_one_repairable_component_is_down_for_mttr_of_mtbf_and_mttr(seed: int, mtbf_d: float, mttr_h: float) -> None:
    per_year, mttr_s = YEAR_S / (mtbf_d * 86_400), mttr_h * 3_600
    table = built_in().only("region_lost").with_fault("region_lost", per_year=per_year, lasts=Lasts(mean_s=mttr_s))
    found = _lived(simulated(text=_ONE, table=table, is_pausing=False), seed)
    assert _agrees(found, mttr_s / (YEAR_S / per_year + mttr_s))


@_FEW
@given(seed=_SEEDS, mtbf_d=st.floats(2, 20), mttr_h=st.floats(4, 48))
def test_two_of_three_members_are_a_majority(seed: int, mtbf_d: float, mttr_h: float) -> None:
    per_year, mttr_s = YEAR_S / (mtbf_d * 86_400), mttr_h * 3_600
    table = built_in().only("member_crash").with_fault("member_crash", per_year=per_year, lasts=Lasts(mean_s=mttr_s))
    setting = simulated(table=table, is_pausing=False)
    patient = replace(setting.platform.timings, lost_member_s=1e9)  # nobody replaces one that comes back by itself
    found = _lived(replace(setting, platform=replace(setting.platform, timings=patient)), seed)
    down = mttr_s / (YEAR_S / per_year + mttr_s)
    assert _agrees(found, 3 * down**2 * (1 - down) + down**3)
