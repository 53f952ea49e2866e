from typing import get_args

import msgspec

from fivenines.drill.reporting.summary import PROMISES, guarantees_of, summarize
from fivenines.drill.results import DrillResult, Finding, Guarantee, GuaranteeVerdict, Verdict
from tests.unit.drill.reporting.samples import sample, samples


def drill(verdict: Verdict, guarantee: Guarantee = "node lost", *, is_kept: bool = True) -> DrillResult:
    told = GuaranteeVerdict(guarantee=guarantee, is_kept=is_kept, why="looked")
    return DrillResult(name="d", title="D", verdict=verdict, guarantees=(told,))


def state_of(results: list[DrillResult], guarantee: Guarantee) -> str:
    return next(each.state for each in summarize(results).guarantees if each.guarantee == guarantee)


def test_every_guarantee_of_the_design_has_a_row_and_a_promise() -> None:
    assert set(PROMISES) == set(get_args(Guarantee))
    assert [each.guarantee for each in summarize([]).guarantees] == list(PROMISES)
    assert {each.state for each in summarize([]).guarantees} == {"not tested"}


def test_one_drill_that_breaks_a_guarantee_outweighs_all_that_keep_it() -> None:
    results = [drill("passed"), drill("failed", is_kept=False), drill("passed")]

    row = next(each for each in summarize(results).guarantees if each.guarantee == "node lost")

    assert (row.state, row.kept_by, row.broken_by) == ("broken", (0, 2), (1,))


def test_a_finding_breaks_its_guarantee_even_if_no_verdict_says_so() -> None:
    finding = Finding(kind="lost", guarantee="acknowledged is durable", what="one is lost")
    result = msgspec.structs.replace(drill("failed", "acknowledged is durable"), findings=(finding,))

    assert state_of([result], "acknowledged is durable") == "broken"
    assert guarantees_of(result) == ["acknowledged is durable"]


def test_a_drill_that_did_not_come_to_its_end_shows_nothing_to_be_kept() -> None:
    for verdict in ("stopped", "refused", "skipped"):
        assert state_of([drill(verdict)], "node lost") == "not tested"
    assert state_of([drill("stopped", is_kept=False)], "node lost") == "broken"


def test_the_verdict_is_passed_only_if_something_passed_and_nothing_speaks_against_it() -> None:
    table: list[tuple[list[Verdict], str]] = [
        (["passed", "skipped"], "passed"),
        (["passed", "failed"], "failed"),
        (["passed", "stopped"], "failed"),
        (["passed", "refused"], "incomplete"),
        (["skipped"], "incomplete"),
        ([], "incomplete"),
    ]
    for verdicts, expected in table:
        assert summarize([drill(each) for each in verdicts]).verdict == expected


def test_sums_are_over_all_drills_and_costs_by_currency() -> None:
    results = samples(30, slices=24)
    results.append(msgspec.structs.replace(sample(0, slices=24), cost=5.0, currency="USD"))

    summary = summarize(results)

    assert summary.lost == 4
    assert summary.failed_requests == sum(each.failed_requests for each in results) > 0
    assert set(summary.costs) == {"EUR", "USD"}
    assert summary.costs["USD"] == 5.0
    assert summary.longest_pause_s == max(each.longest_pause_s for each in results)
    assert summary.availability is not None
    assert 0.9 < summary.availability < 1
