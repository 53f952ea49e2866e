"""Whatever honest clients and an honest ledger do, the checker finds nothing wrong, and has looked at much."""

from itertools import pairwise

from hypothesis import example, given, settings
from hypothesis import strategies as st

from fivenines.drill.checker import JUDGED, judge
from tests.property.checker.honest import World


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, 200))
@example(1, 500)
def test_an_honest_history_is_found_to_be_so(seed: int, steps: int) -> None:
    evidence = World(seed, steps).evidence()
    judgement = judge(evidence)
    assert not judgement.findings, str(judgement)
    assert judgement.is_good == (judgement.acknowledged > 0)
    assert judgement.requests == len(evidence.asked)
    assert [each.guarantee for each in judgement.guarantees] == list(JUDGED)
    assert all(each.is_kept == judgement.is_good for each in judgement.guarantees)


def test_honest_histories_have_a_little_of_everything() -> None:
    """Else that nothing is found would say nothing."""
    asked = [each for seed in range(8) for each in World(seed, 300).evidence().asked]
    assert {each.kind for each in asked} == {"post", "hold", "settle", "release", "read", "total"}
    outcomes = {each.outcome for each in asked}
    assert outcomes >= {"posted", "held", "settled", "released", "read", ""}
    assert outcomes >= {"insufficient_funds", "balance_limit_exceeded", "hold_already_settled", "hold_exceeded"}
    assert any(each.is_refused for each in asked)
    assert any(each.error and not each.is_undone for each in asked)
    overlapping = sum(one.sent < other.sent < one.ended for one, other in pairwise(asked))
    assert overlapping > len(asked) / 10
