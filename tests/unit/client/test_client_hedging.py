"""Where a try hangs a second server is asked, within a budget; and a client does not move because all are slow."""

import contextlib
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.client.errors import RefusedError, UnavailableError
from fivenines.client.hedging import Hedging
from fivenines.client.retry import Limits, Try
from tests.unit.client.driving import (
    CUT_OFF,
    GARBLED,
    TIMED_OUT,
    UNREACHED,
    After,
    Came,
    Drive,
    problem,
    reply,
)

A, B, C = "http://a", "http://b", "http://c"
POSTED = reply(200, {"id": "t1", "outcome": "posted", "position": 7})
HANGS = After(math.inf, TIMED_OUT)
LIMITS = Limits(hedge_s=0.5)


def post(drive: Drive) -> None:
    drive.run(drive.operations.post(source="a", destination="b", amount=1))


def hedged(answers: dict[str, Came | After], *, limits: Limits = LIMITS, **options: float) -> Drive:
    """Return clients of servers that answer like this."""
    return Drive(lambda step: answers[step.url], urls=tuple(answers), limits=limits, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("first", "second", "took_s", "asked"),
    [
        pytest.param(POSTED, POSTED, 0, [A], id="an answer in time needs no second server"),
        pytest.param(After(0.5, POSTED), POSTED, 0.5, [A], id="neither does one that is just in time"),
        pytest.param(HANGS, After(0.1, POSTED), 0.6, [A, B], id="a server that hangs costs the delay, and the other"),
        pytest.param(After(0.9, POSTED), HANGS, 0.9, [A, B], id="the first one may still be the first"),
        pytest.param(After(0.9, POSTED), After(0.1, UNREACHED), 0.9, [A, B], id="a bad answer does not end the other"),
        pytest.param(After(0.9, POSTED), After(0.1, GARBLED), 0.9, [A, B], id="nor does a garbled one"),
        pytest.param(After(0.6, CUT_OFF), After(0.3, POSTED), 0.8, [A, B], id="nor one of the first server"),
        pytest.param(After(0.6, problem(500)), After(0.3, POSTED), 0.8, [A, B], id="nor one that says 500"),
        pytest.param(After(0.9, POSTED), After(0.1, problem(503)), 0.9, [A, B], id="nor one that is overloaded"),
        pytest.param(UNREACHED, POSTED, 0, [A, B], id="a server that is not there is left at once, as ever"),
    ],
)
def test_the_first_good_answer_counts(
    first: Came | After, second: Came | After, took_s: float, asked: list[str]
) -> None:
    drive = hedged({A: first, B: second})
    post(drive)
    assert drive.urls == asked
    assert drive.now - drive.began == pytest.approx(took_s)
    assert len({(step.request.body, step.request.path) for step in drive.tries}) == 1


def test_a_refusal_of_the_second_server_is_the_answer() -> None:
    drive = hedged({A: HANGS, B: problem(409, outcome="insufficient_funds", id="t1")})
    with pytest.raises(RefusedError):
        post(drive)
    assert drive.now - drive.began == 0.5


def test_a_server_that_hung_is_left_alone_afterwards() -> None:
    drive = hedged({A: HANGS, B: After(0.01, POSTED)})
    for _ in range(5):
        post(drive)
        drive.settle()
    assert drive.urls == [A, B, B, B, B, B]


def test_a_third_server_is_asked_where_two_hang() -> None:
    drive = hedged({A: HANGS, B: HANGS, C: POSTED})
    post(drive)
    assert drive.urls == [A, B, C]
    assert drive.now - drive.began == 1.0


def test_a_client_stays_in_its_region_when_all_were_slow_and_another_was_first_by_a_little() -> None:
    """As when the journal elects a leader."""
    drive = hedged({A: After(0.65, POSTED), B: After(0.1, POSTED)})
    post(drive)
    assert drive.urls == [A, B]
    drive.settle()  # A answers 50 ms after B
    post(drive)
    assert drive.urls == [A, B, A, B]


def test_a_client_moves_when_its_server_is_slow_and_another_is_not() -> None:
    drive = hedged({A: After(2, POSTED), B: After(0.01, POSTED)})
    for _ in range(3):
        post(drive)
        drive.settle()
    assert drive.urls == [A, B, B, B]


def test_second_requests_end_when_their_budget_is_used_up() -> None:
    drive = hedged({A: After(1, POSTED), B: After(1, POSTED)}, limits=Limits(hedge_s=0.5, hedge_burst=3))
    for _ in range(10):
        post(drive)
    assert len(drive.tries) <= 10 + 3 + 1


def test_where_answers_usually_take_long_a_second_server_is_asked_later() -> None:
    drive = hedged({A: After(0.9, POSTED), B: HANGS}, limits=Limits(hedge_s=0.5, hedge_burst=100))
    for _ in range(40):
        post(drive)
    assert drive.urls[-10:] == [A] * 10


def test_no_second_request_goes_out_without_a_second_server_or_when_that_is_switched_off() -> None:
    alone = hedged({A: After(3, POSTED)})
    post(alone)
    switched_off = hedged({A: After(3, POSTED), B: POSTED}, limits=Limits(hedge_s=math.inf))
    post(switched_off)
    assert alone.urls == switched_off.urls == [A]
    assert alone.tries[0].patience_s is None


def test_no_second_request_goes_to_a_server_before_the_time_it_asked_for() -> None:
    script: dict[str, list[Came | After]] = {A: [problem(503, retry_after="3"), HANGS], B: [HANGS, POSTED]}

    def answer(step: Try) -> Came | After:
        return script[step.url].pop(0) if script[step.url] else POSTED

    drive = Drive(answer, urls=(A, B), limits=LIMITS)
    post(drive)
    for step, at in zip(drive.tries[1:], drive.tried_at[1:], strict=True):
        assert step.url != A or at >= drive.began + 3


outcomes: st.SearchStrategy[Came | After] = st.one_of(
    st.just(HANGS),
    st.just(POSTED),
    st.builds(
        After,
        st.sampled_from([0.0, 0.01, 0.3, 0.6, 1.5, 7.0]),
        st.sampled_from([POSTED, UNREACHED, CUT_OFF, GARBLED, problem(503), problem(429, retry_after="1")]),
    ),
)


@settings(max_examples=40)
@given(st.data(), st.integers(2, 4), st.integers(1, 30), st.floats(0, 1, exclude_max=True))
def test_second_requests_never_exceed_their_budget_and_have_the_same_content(
    data: st.DataObject, count: int, calls: int, chance: float
) -> None:
    urls = tuple(f"http://{n}" for n in range(count))
    limits = Limits(hedge_s=0.5, hedge_burst=2, hedge_share=0.1)
    drive = Drive(lambda _: data.draw(outcomes), urls=urls, limits=limits, chance=chance, deadline_s=20)
    spent = 0
    spend = drive.session.hedging.spend

    def counting() -> bool:
        nonlocal spent
        was_there = spend()
        spent += was_there
        return was_there

    drive.session.hedging.spend = counting  # type: ignore[method-assign]
    for n in range(1, calls + 1):
        before = len(drive.tries)
        with contextlib.suppress(UnavailableError):
            post(drive)
        drive.settle()
        this = drive.tries[before:]
        assert len({(step.request.body, step.request.ids) for step in this}) == 1
        assert spent <= 2 + 0.1 * n + 1e-9


@settings(max_examples=40)
@given(
    st.data(),
    st.integers(1, 4),
    st.integers(0, 3),
    st.floats(0, 1, exclude_max=True),
    st.sampled_from([After(0.01, POSTED), After(0.4, POSTED), POSTED]),
)
def test_no_failures_of_others_keep_a_call_from_a_server_that_works(
    data: st.DataObject, count: int, working: int, chance: float, works: Came | After
) -> None:
    urls = tuple(f"http://{n}" for n in range(count))
    good = urls[working % count]
    fails: st.SearchStrategy[Came | After] = st.sampled_from(
        [HANGS, UNREACHED, CUT_OFF, GARBLED, After(0.2, problem(503, retry_after="1"))]
    )

    def answer(step: Try) -> Came | After:
        return works if step.url == good else data.draw(fails)

    drive = Drive(answer, urls=urls, limits=LIMITS, chance=chance, deadline_s=30)
    for _ in range(4):
        began = drive.now
        post(drive)
        drive.settle()
        assert drive.now - began < 30


@given(st.lists(st.booleans(), max_size=200), st.floats(0.01, 1), st.floats(1, 10))
def test_a_budget_is_kept_in_any_order_of_requests(asks: list[bool], share: float, burst: float) -> None:
    hedging = Hedging(delay_s=0.5, delay_s_max=3, share=share, burst=burst)
    spent = 0
    for earned, asks_twice in enumerate(asks, start=1):
        hedging.earn()
        spent += asks_twice and hedging.spend()
        assert spent <= burst + share * earned + 1e-9


@given(st.lists(st.floats(0, 100), max_size=50))
def test_the_delay_stays_within_its_bounds(times: list[float]) -> None:
    hedging = Hedging(delay_s=0.5, delay_s_max=3, share=0.1, burst=1)
    for seconds in times:
        hedging.took(seconds)
        assert 0.5 <= hedging.delay_s <= 3
