import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from fivenines.control.bookkeeping import Bookkeeper
from fivenines.control.budget import YEAR_S, Books, book, budget_s, lost_part, resolve
from fivenines.control.store import Shared
from fivenines.control.timeline import event_of, line
from tests.unit.control.situations import LOST_ONE, NAMES, NOW, A, B, C, all_see, desired, observed, report, state


def test_five_nines_leave_315_seconds_a_year() -> None:
    assert budget_s(desired()) == pytest.approx(315.576)


def test_failed_answers_lose_their_part() -> None:
    reports = {A: report(A, requests_per_s=100.0, failed_per_s=5.0), B: report(B, requests_per_s=100.0)}
    assert lost_part(desired(), observed(reports=reports)) == pytest.approx(5 / 200)


def test_a_region_that_is_not_answered_loses_its_share_until_it_gets_none() -> None:
    sees = all_see(C, LOST_ONE)
    assert lost_part(desired(), observed(sees=sees)) == pytest.approx(1 / 3)
    assert lost_part(desired(), observed(sees=sees, states=[state(C, "few")])) == pytest.approx(0.25 / 2.25)
    assert lost_part(desired(), observed(sees=sees, states=[state(C, "down")])) == 0.0
    assert lost_part(desired(), observed(sees=all_see(C, LOST_ONE, A))) == 0.0, "one that sees nobody is blind"
    assert lost_part(desired(), observed(sees={n: dict.fromkeys(NAMES, LOST_ONE) for n in NAMES})) == 1.0


def test_a_standby_that_weighs_nothing_loses_what_it_serves() -> None:
    """With one that weighs all down, the names lead to those that weigh nothing: each to the same part."""
    regions = tuple(replace(each, weight=float(each.name == A)) for each in desired().regions)
    weightless = replace(desired(), regions=regions)
    states = [state(A, "down")]
    assert lost_part(weightless, observed(sees=all_see(C, LOST_ONE), states=states)) == pytest.approx(1 / 2)
    assert lost_part(weightless, observed(sees=all_see(C, LOST_ONE))) == 0.0, "while the one that weighs all serves"


def test_a_loss_is_booked_on_the_incident_that_is_open() -> None:
    books, new = book(Books(), ["region:c"], lost_s=2.0, cost_per_s=50.0, now=NOW, make_id="i")
    assert new == ["region:c"]
    books, new = book(books, ["region:c"], lost_s=1.0, cost_per_s=50.0, now=NOW + 1, make_id="j")
    assert new == []
    books, closed = resolve(books, [])
    assert closed["region:c"].lost_s == 3.0
    assert closed["region:c"].cost == 150.0
    assert (books.lost_s, books.cost, books.open) == (3.0, 150.0, {})


def test_a_new_year_has_a_new_budget() -> None:
    books, _ = book(Books(), [], lost_s=2.0, cost_per_s=1.0, now=NOW, make_id="i")
    books, _ = book(books, [], lost_s=1.0, cost_per_s=1.0, now=NOW + YEAR_S, make_id="i")
    assert books.lost_s == 1.0


@given(
    st.lists(
        st.tuples(st.sets(st.sampled_from(["a:1", "b:2", "c:3"])), st.floats(min_value=0, max_value=10)), max_size=30
    )
)
def test_what_incidents_cost_is_never_more_than_what_was_lost(script: list[tuple[set[str], float]]) -> None:
    books, total, on_incidents = Books(), 0.0, 0.0
    for disturbances, lost_s in script:
        books, _ = book(books, disturbances, lost_s=lost_s, cost_per_s=2.0, now=NOW, make_id="i")
        total += lost_s
        books, closed = resolve(books, disturbances)
        on_incidents += sum(incident.lost_s for incident in closed.values())
        assert set(books.open) == disturbances
    on_incidents += sum(incident.lost_s for incident in books.open.values())
    assert books.lost_s == pytest.approx(total)
    assert books.cost == pytest.approx(2 * total)
    assert on_incidents <= total + 1e-6


def test_what_was_lost_before_a_region_went_down_is_booked_on_it() -> None:
    keeper, shared = Bookkeeper(A), Shared()
    failing = observed(sees=all_see(C, LOST_ONE), is_leader=True)
    for number in range(4):
        keeper.measure(desired(), failing, now=0.5 * number, unix=NOW)
        assert keeper.keep(desired(), failing, shared, {}, now=0.5 * number, unix=NOW) is None
    gone = observed(sees=all_see(C, LOST_ONE), states=[state(C, "down")], is_leader=True)
    kept = keeper.keep(desired(downtime_cost_per_s=10.0), gone, shared, {}, now=2.0, unix=NOW)
    assert kept is not None
    books, (opened,) = kept
    assert books.open[f"region:{C}"].lost_s == pytest.approx(0.5)
    assert books.open[f"region:{C}"].cost == pytest.approx(5.0)
    assert (opened.kind, opened.target) == ("incident", C)


def test_a_loss_counts_from_when_the_first_probe_that_failed_began() -> None:
    keeper = Bookkeeper(A)
    keeper.measure(desired(), observed(is_leader=True), now=0.0, unix=NOW)
    hung = replace(LOST_ONE, failing_s=1.5)
    gone = observed(sees=all_see(C, hung), is_leader=True)
    keeper.measure(desired(), gone, now=0.5, unix=NOW)
    down = observed(states=[state(C, "down")], is_leader=True)
    keeper.measure(desired(), down, now=1.0, unix=NOW)
    kept = keeper.keep(desired(), down, Shared(), {}, now=1.0, unix=NOW)
    assert kept is not None
    assert kept[0].lost_s == pytest.approx(1.5 / 3)


def test_who_follows_a_leader_that_died_books_what_it_has_seen_since() -> None:
    keeper = Bookkeeper(B)
    failing = all_see(C, LOST_ONE)
    for number in range(3):
        seen = observed(here=B, sees=failing, reports={A: report(A, {C: LOST_ONE}, sequence=number, is_leader=True)})
        keeper.measure(desired(), seen, now=float(number), unix=NOW)
        keeper.keep(desired(), seen, Shared(leader=A), {}, now=float(number), unix=NOW)
    for number in range(3, 6):
        seen = observed(here=B, sees=failing, reports={A: report(A, {C: LOST_ONE}, sequence=2, is_leader=True)})
        keeper.measure(desired(), seen, now=float(number), unix=NOW)
        keeper.keep(desired(), seen, Shared(leader=A), {}, now=float(number), unix=NOW)
    leads = observed(here=B, sees=failing, is_leader=True, states=[state(C, "down")])
    kept = keeper.keep(desired(), leads, Shared(leader=B), {}, now=6.0, unix=NOW)
    assert kept is not None
    assert kept[0].lost_s == pytest.approx(3 / 3), "three seconds, a third of all each"


def test_a_leader_that_was_started_anew_books_what_the_others_have_seen_meanwhile() -> None:
    other, anew = Bookkeeper(B), Bookkeeper(A)
    failing = all_see(C, LOST_ONE)
    for number in range(4):
        seen = observed(here=B, sees=failing, reports={A: report(A, {C: LOST_ONE}, sequence=0, is_leader=True)})
        other.measure(desired(), seen, now=float(number), unix=NOW)
        other.keep(desired(), seen, Shared(leader=A), {}, now=float(number), unix=NOW)
    # It leads and does not know yet: what the others have measured is not forgotten for that.
    began = observed(here=B, sees=failing, reports={A: report(A, {}, sequence=1)})
    other.keep(desired(), began, Shared(leader=A), {}, now=3.5, unix=NOW)
    told = other.said(report(B, {C: LOST_ONE}))
    assert told.unbooked_s == pytest.approx(3 / 3)

    reports = {B: told, C: report(C, {}, unbooked_s=0.25)}
    leads = observed(here=A, is_leader=True, states=[state(C, "down")], reports=reports)
    anew.measure(desired(), leads, now=0.0, unix=NOW)
    kept = anew.keep(desired(), leads, Shared(leader=A), {}, now=0.0, unix=NOW)
    assert kept is not None
    assert kept[0].lost_s == kept[0].open[f"region:{C}"].lost_s == pytest.approx(3 / 3)
    anew.was_kept()
    kept = anew.keep(desired(), leads, Shared(leader=A, books=kept[0]), {}, now=0.5, unix=NOW)
    assert kept is None, "what was taken over once is not booked again"

    lives = observed(here=B, reports={A: report(A, sequence=2, is_leader=True, unbooked_s=0.0)})
    other.keep(desired(), lives, Shared(leader=A, books_revision=7), {}, now=4.0, unix=NOW)
    assert other.said(report(B)).unbooked_s == 0.0


def test_what_a_leader_had_not_booked_when_it_died_is_booked_by_who_follows_and_what_it_had_is_not() -> None:
    keeper = Bookkeeper(B)

    def hears(unbooked_s: float, *, sequence: int, of: int, revision: int) -> float:
        said = report(A, sequence=sequence, is_leader=True, unbooked_s=unbooked_s, books_revision=of)
        shared = Shared(leader=A, books_revision=revision)
        keeper.keep(desired(), observed(here=B, reports={A: said}), shared, {}, now=0.0, unix=NOW)
        return keeper.said(report(B)).unbooked_s

    assert hears(1.5, sequence=1, of=0, revision=0) == 1.5
    assert hears(2.0, sequence=2, of=0, revision=9) == 0.0, "it has booked since that report"
    assert hears(0.5, sequence=3, of=9, revision=9) == 0.5
    assert hears(0.5, sequence=3, of=9, revision=12) == 0.0, "it has booked, and died"


def test_what_others_said_of_older_books_is_not_booked_again() -> None:
    keeper = Bookkeeper(B)
    reports = {C: report(C, unbooked_s=2.0, books_revision=3)}
    leads = observed(here=B, is_leader=True, reports=reports)
    keeper.measure(desired(), leads, now=0.0, unix=NOW)
    assert keeper.keep(desired(), leads, Shared(leader=B, books_revision=7), {}, now=0.0, unix=NOW) is None


def test_a_leader_that_does_not_lead_for_a_round_forgets_nothing() -> None:
    keeper = Bookkeeper(A)
    failing = observed(sees=all_see(C, LOST_ONE), is_leader=True)
    shared = Shared(leader=A, books_revision=4)
    for number in range(3):
        keeper.measure(desired(), failing, now=float(number), unix=NOW + number)
        keeper.keep(desired(), failing, shared, {}, now=float(number), unix=NOW + number)
    nobody = observed(sees=all_see(C, LOST_ONE))
    keeper.keep(desired(), nobody, Shared(books_revision=4), {}, now=2.1, unix=NOW + 2.1)
    assert keeper.said(report(A)).unbooked_s == pytest.approx(2 / 3)


def alone_for(keeper: Bookkeeper, here: str, seconds: int) -> None:
    """Let a controller have no answer from the store, nor from any region, from NOW on."""
    keeper.measure(desired(), observed(here=here), now=0.0, unix=NOW - 60)
    none = dict.fromkeys(NAMES, LOST_ONE)
    silent = [name for name in NAMES if name != here]
    for number in range(seconds + 1):
        alone = observed(here=here, sees={here: none}, silent=silent, has_majority=False, alone_s=float(number))
        keeper.measure(desired(), alone, now=float(number), unix=NOW + number)


def test_an_outage_is_booked_although_the_leader_died_with_it() -> None:
    keeper = Bookkeeper(B)
    alone_for(keeper, B, 11)
    # Its last report, and its last booking, are of just before, and had not been read.
    last = report(A, sequence=5, is_leader=True, in_touch_since=NOW - 60, unbooked_s=0.5)
    last = replace(last, at=NOW + 0.4)
    shared = Shared(leader=A, books=Books(at=NOW + 0.4), books_revision=3)
    back = observed(here=B, reports={A: last})
    keeper.measure(desired(), back, now=11.0, unix=NOW + 11)
    assert keeper.keep(desired(), back, shared, {}, now=11.0, unix=NOW + 11) is None
    leads = observed(here=B, is_leader=True)
    keeper.measure(desired(), leads, now=12.0, unix=NOW + 12)
    kept = keeper.keep(desired(), leads, replace(shared, leader=B), {}, now=12.0, unix=NOW + 12)
    assert kept is not None
    books, (opened,) = kept
    assert books.lost_s == pytest.approx(11.0)
    assert opened.what == "journal_majority: bank"
    keeper.was_kept()
    again = keeper.keep(
        desired(), leads, Shared(leader=B, books=books, books_revision=9), {}, now=12.5, unix=NOW + 12.5
    )
    assert again is not None
    assert again[0].lost_s == books.lost_s
    assert [event.kind for event in again[1]] == ["resolved"]


@pytest.mark.parametrize("revision", [0, 3], ids=["not booked", "booked just before"])
def test_what_was_lost_in_an_election_is_not_forgotten_for_a_report_of_before(revision: int) -> None:
    keeper = Bookkeeper(B)
    alone_for(keeper, B, 2)
    last = replace(report(A, sequence=5, is_leader=True, books_revision=revision), at=NOW + 0.4)
    shared = Shared(leader=A, books_revision=revision)
    back = observed(here=B, reports={A: last})
    for number in range(2):
        keeper.measure(desired(), back, now=2.0 + number / 4, unix=NOW + 2)
        assert keeper.keep(desired(), back, shared, {}, now=2.0, unix=NOW + 2) is None
        assert keeper.said(report(B)).unbooked_s == pytest.approx(2.0)
    lives = observed(here=B, reports={A: replace(last, sequence=6, unbooked_s=1.5)})
    keeper.keep(desired(), lives, shared, {}, now=2.5, unix=NOW + 2.5)
    assert keeper.said(report(B)).unbooked_s == 1.5


def test_an_outage_that_others_have_measured_is_booked_once_by_a_leader_that_has_just_begun() -> None:
    other, anew = Bookkeeper(B), Bookkeeper(A)
    alone_for(other, B, 8)
    back = observed(here=B, reports={A: report(A), C: report(C)})
    other.measure(desired(), back, now=8.0, unix=NOW + 8)
    other.keep(desired(), back, Shared(), {}, now=8.0, unix=NOW + 8)
    reports = {B: replace(other.said(report(B)), at=NOW + 8)}
    leads = observed(here=A, is_leader=True, reports=reports)
    anew.measure(desired(), leads, now=0.0, unix=NOW + 9)
    kept = anew.keep(desired(), leads, Shared(leader=A), {}, now=0.0, unix=NOW + 9)
    assert kept is not None
    assert kept[0].lost_s == pytest.approx(8.0)
    anew.was_kept()
    shared = Shared(leader=A, books=kept[0], books_revision=5)
    kept = anew.keep(desired(), leads, shared, {}, now=0.5, unix=NOW + 9.5)
    assert kept is not None
    assert kept[0].lost_s == pytest.approx(8.0), "it is told once more, and booked"
    other.keep(desired(), back, shared, {}, now=9.0, unix=NOW + 9)
    assert other.said(report(B)).outage is None


def test_what_a_region_saw_that_alone_was_cut_off_is_nobodys_loss() -> None:
    cut, keeper = Bookkeeper(C), Bookkeeper(A)
    alone_for(cut, C, 60)
    cut.measure(desired(), observed(here=C), now=60.0, unix=NOW + 60)
    told = replace(cut.said(report(C)), at=NOW + 60)
    assert told.outage is not None
    keeper.measure(desired(), observed(), now=0.0, unix=NOW - 60)
    leads = observed(is_leader=True, reports={C: told})
    keeper.measure(desired(), leads, now=1.0, unix=NOW + 60)
    assert keeper.keep(desired(), leads, Shared(leader=A), {}, now=1.0, unix=NOW + 60) is None
    lived = replace(keeper.said(report(A, sequence=1)), at=NOW + 60)
    back = observed(here=C, is_leader=True, reports={A: lived})
    cut.measure(desired(), back, now=60.5, unix=NOW + 60.5)
    assert cut.keep(desired(), back, Shared(leader=C), {}, now=60.5, unix=NOW + 60.5) is None
    assert cut.said(report(C)).outage is None


def test_a_journal_without_a_majority_is_booked_when_it_is_over() -> None:
    keeper = Bookkeeper(A)
    none = dict.fromkeys(NAMES, LOST_ONE)
    for number in range(11):
        alone = observed(sees={A: none}, silent=[B, C], has_majority=False, alone_s=float(number))
        keeper.measure(desired(), alone, now=float(number), unix=NOW + number)
    again = observed(is_leader=True)
    keeper.measure(desired(), again, now=11.0, unix=NOW + 11)
    kept = keeper.keep(desired(), again, Shared(), {}, now=11.0, unix=NOW + 11)
    assert kept is not None
    assert kept[0].lost_s == pytest.approx(10.0)
    keeper.was_kept()
    kept = keeper.keep(desired(), again, Shared(books=kept[0]), {}, now=11.5, unix=NOW + 11.5)
    assert kept is not None
    (resolved,) = kept[1]
    assert (resolved.what, resolved.took_s, resolved.budget_s) == ("journal_majority: bank", 11.5, 10.0)


def test_an_event_is_one_line() -> None:
    event = event_of(
        at=NOW, region=A, kind="resolved", what="region: c", why="", target=C, took_s=12.3456, budget_s=0.5, cost=1234.5
    )
    assert line(event, currency="EUR") == (
        "2027-01-15 08:00:00.000Z  eu-west       resolved  region: c  took 12.3 s  budget 0.5 s  cost 1,234.50 EUR"
    )
