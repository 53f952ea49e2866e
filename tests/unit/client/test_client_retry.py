"""A call tries until its deadline, goes where an answer is likely, and tells truly what it knows at the end."""

from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.client.errors import LedgerError, MaybeDoneError, NotDoneError, RefusedError, UnavailableError
from fivenines.client.retry import Limits, Try
from fivenines.client.servers import Server, Servers
from fivenines.client.wire import Failure, Reply
from tests.unit.client.driving import CUT_OFF, GARBLED, TIMED_OUT, UNREACHED, Came, Drive, problem, reply

POSTED = reply(200, {"id": "t1", "outcome": "posted", "position": 7})
ACCOUNT = reply(
    200,
    dict.fromkeys(("balance", "available", "debits", "credits", "held_debits", "held_credits"), 0)
    | {"id": "a", "asset": "EUR/2", "status": "open", "min_balance": 0, "max_balance": None, "metadata": {}},
)
OVERLOADED = problem(503, "overloaded", retry_after="1")
GATEWAY_TIMEOUT = reply(504, None, position=None)

failures: st.SearchStrategy[Came] = st.one_of(
    st.sampled_from([UNREACHED, TIMED_OUT, CUT_OFF, GARBLED, GATEWAY_TIMEOUT, Failure("busy_here", "")]),
    st.integers(0, 9).map(lambda seconds: problem(503, "overloaded", retry_after=str(seconds))),
    st.integers(0, 9).map(lambda seconds: problem(429, "too_many", retry_after=str(seconds))),
)
SURELY_NOT_DONE = {"unreached", "busy_here"}


def may_be_done(came: Came) -> bool:
    if isinstance(came, Failure):
        return came.kind not in SURELY_NOT_DONE
    return came.status == 504


def post(drive: Drive) -> object:
    return drive.run(drive.operations.post(source="a", destination="b", amount=1))


@given(
    st.lists(failures, max_size=40),
    st.integers(1, 4),
    st.floats(0, 1, exclude_max=True),
    st.floats(0.1, 60),
    st.sampled_from([0.0, 0.01, 0.7]),
)
def test_whatever_fails_the_request_stays_the_same_and_the_end_is_told_truly(
    script: list[Came], servers: int, chance: float, deadline_s: float, try_s: float
) -> None:
    urls = tuple(f"http://{n}" for n in range(servers))
    drive = Drive([*script, POSTED], urls=urls, deadline_s=deadline_s, chance=chance, try_s=try_s)
    error = None
    try:
        post(drive)
    except UnavailableError as raised:
        error = raised
    if error is None:
        assert len(drive.tries) == len(script) + 1
    else:
        met = script[: len(drive.tries)]
        assert isinstance(error, MaybeDoneError if any(map(may_be_done, met)) else NotDoneError)
        assert (error.tries, error.ids) == (len(drive.tries), drive.tries[0].request.ids)
    assert len({step.request.body for step in drive.tries}) == 1
    assert drive.now - drive.began <= deadline_s + try_s + 1e-6
    for step, at in zip(drive.tries, drive.tried_at, strict=True):
        assert step.connect_timeout_s <= step.timeout_s <= drive.began + deadline_s - at + 1e-6


@given(st.lists(failures, min_size=1, max_size=40), st.integers(1, 4), st.floats(0, 1, exclude_max=True))
def test_no_server_is_tried_before_the_time_it_asked_for(script: list[Came], servers: int, chance: float) -> None:
    urls = tuple(f"http://{n}" for n in range(servers))
    drive = Drive([*script, POSTED], urls=urls, chance=chance, deadline_s=1_000)
    post(drive)
    not_before = dict.fromkeys(urls, 0.0)
    for step, at, came in zip(drive.tries, drive.tried_at, script, strict=False):
        assert at >= not_before[step.url] - 1e-6
        if isinstance(came, Reply) and came.retry_after is not None:
            not_before[step.url] = at + float(came.retry_after)


def test_waits_double_up_to_their_bound() -> None:
    drive = Drive([UNREACHED] * 9 + [POSTED], chance=1.0, limits=Limits(backoff_s_min=0.05, backoff_s_max=2))
    post(drive)
    assert drive.slept == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2, 2, 2]


def test_jitter_is_full() -> None:
    drive = Drive([UNREACHED] * 4 + [POSTED], chance=0.25)
    post(drive)
    assert drive.slept == [0.0125, 0.025, 0.05, 0.1]


def test_another_server_is_tried_at_once_and_then_kept() -> None:
    def answer(step: Try) -> Came:
        return UNREACHED if step.url == "http://a" else POSTED

    drive = Drive(answer, urls=("http://a", "http://b", "http://c"))
    post(drive)
    post(drive)
    drive.now += 1_000
    post(drive)
    assert drive.urls == ["http://a", "http://b", "http://b", "http://b"]
    assert drive.slept == []


def test_a_server_that_failed_is_left_alone_for_a_while_and_tried_again_when_its_time_has_come() -> None:
    broken = {"http://a"}

    def answer(step: Try) -> Came:
        return UNREACHED if step.url in broken else POSTED

    drive = Drive(answer, urls=("http://a", "http://b"), limits=Limits(avoid_s=10))
    post(drive)
    drive.now += 5
    broken |= {"http://b"}
    broken -= {"http://a"}
    post(drive)
    assert drive.urls == ["http://a", "http://b", "http://b", "http://a"]
    assert sum(drive.slept) < 1


def test_all_servers_are_tried_in_turn_while_all_are_down() -> None:
    drive = Drive([UNREACHED], urls=("http://a", "http://b", "http://c"), deadline_s=3)
    with pytest.raises(NotDoneError):
        post(drive)
    assert drive.urls[:6] == ["http://a", "http://b", "http://c"] * 2
    assert set(drive.urls[6:]) <= {"http://a", "http://b", "http://c"}


def test_an_idle_connection_that_the_server_had_closed_is_no_reason_to_leave_it() -> None:
    drive = Drive([CUT_OFF, POSTED], urls=("http://a", "http://b"))
    post(drive)
    assert drive.urls == ["http://a", "http://a"]
    assert drive.slept == []


def test_a_server_that_cuts_off_twice_is_left() -> None:
    drive = Drive([CUT_OFF, CUT_OFF, POSTED], urls=("http://a", "http://b"))
    post(drive)
    assert drive.urls == ["http://a", "http://a", "http://b"]


def test_too_many_requests_is_the_same_everywhere_so_the_server_is_kept() -> None:
    drive = Drive([problem(429, retry_after="3"), POSTED], urls=("http://a", "http://b"), chance=0)
    post(drive)
    assert drive.urls == ["http://a", "http://a"]
    assert drive.slept == [3]


def test_an_overloaded_server_is_waited_for_when_there_is_no_other() -> None:
    drive = Drive([OVERLOADED, POSTED], chance=0.5)
    post(drive)
    assert drive.slept == [1 + 0.5 * 0.05]


def test_a_wait_beyond_the_deadline_is_not_begun() -> None:
    drive = Drive([problem(503, retry_after="60")], deadline_s=30)
    with pytest.raises(NotDoneError) as caught:
        post(drive)
    assert drive.now == drive.began
    assert caught.value.tries == 1


def test_each_try_that_timed_out_gives_the_next_one_twice_the_time() -> None:
    drive = Drive([TIMED_OUT], deadline_s=30, limits=Limits(try_timeout_s=4), chance=0)
    with pytest.raises(MaybeDoneError):
        post(drive)
    assert [step.timeout_s for step in drive.tries] == [4, 8, 16, 2]


def test_no_try_is_begun_that_could_only_end_in_doubt() -> None:
    drive = Drive([OVERLOADED], deadline_s=2.05, chance=0, limits=Limits(try_timeout_s_min=0.1))
    with pytest.raises(NotDoneError):
        post(drive)
    assert drive.tried_at == [drive.began, drive.began + 1]


def test_a_short_deadline_still_gets_one_try() -> None:
    drive = Drive([POSTED], deadline_s=0.01)
    post(drive)
    assert [step.timeout_s for step in drive.tries] == [pytest.approx(0.01)]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([UNREACHED], NotDoneError),
        ([OVERLOADED], NotDoneError),
        ([Failure("busy_here", "")], NotDoneError),
        ([CUT_OFF, UNREACHED], MaybeDoneError),
        ([TIMED_OUT, OVERLOADED], MaybeDoneError),
        ([GATEWAY_TIMEOUT, UNREACHED], MaybeDoneError),
        ([problem(503, "maybe_done"), OVERLOADED], MaybeDoneError),
        ([problem(500)], MaybeDoneError),
    ],
)
def test_one_try_that_may_have_been_done_makes_the_whole_call_so(
    script: Iterable[Came], kind: type[UnavailableError]
) -> None:
    drive = Drive(script, deadline_s=20)
    with pytest.raises(UnavailableError) as caught:
        post(drive)
    assert type(caught.value) is kind
    assert caught.value.ids == drive.tries[0].request.ids


@pytest.mark.parametrize("came", [UNREACHED, TIMED_OUT, CUT_OFF, GARBLED, GATEWAY_TIMEOUT, problem(500)])
def test_a_read_that_failed_did_nothing(came: Came) -> None:
    drive = Drive([came], deadline_s=5)
    with pytest.raises(NotDoneError) as caught:
        drive.run(drive.operations.account("a"))
    assert caught.value.ids == ()


def test_a_refusal_after_a_lost_answer_is_the_answer() -> None:
    drive = Drive([CUT_OFF, problem(409, outcome="insufficient_funds", id="t1")])
    with pytest.raises(RefusedError):
        post(drive)


def test_a_read_asks_for_what_was_seen_before_on_any_server() -> None:
    posted = reply(200, {"id": "t1", "outcome": "posted"}, position=41)
    drive = Drive([posted, UNREACHED, ACCOUNT], urls=("http://a", "http://b"))
    post(drive)
    drive.run(drive.operations.account("x"))
    assert [(step.url, step.request.path) for step in drive.tries[1:]] == [
        ("http://a", "/v1/accounts/x?at_least=41"),
        ("http://b", "/v1/accounts/x?at_least=41"),
    ]


def test_a_position_never_goes_back() -> None:
    drive = Drive([reply(200, {"id": "t", "outcome": "posted"}, position=p) for p in (5, 9, 3)])
    for _ in range(3):
        post(drive)
    assert drive.session.position == 9


@pytest.mark.parametrize(
    ("reads_own_writes", "at_least", "path"),
    [
        (False, None, "/v1/accounts/x"),
        (False, 3, "/v1/accounts/x?at_least=3"),
        (True, None, "/v1/accounts/x?at_least=7"),
        (True, 3, "/v1/accounts/x?at_least=3"),
    ],
)
def test_what_a_read_waits_for_can_be_chosen(reads_own_writes: bool, at_least: int | None, path: str) -> None:
    drive = Drive([POSTED, ACCOUNT], reads_own_writes=reads_own_writes)
    post(drive)
    drive.run(drive.operations.account("x", at_least=at_least))
    assert drive.tries[-1].request.path == path


def test_a_read_may_ask_to_see_all_that_was_acknowledged_before() -> None:
    drive = Drive([ACCOUNT, reply(200, {"accounts": [], "next": None})])
    drive.run(drive.operations.account("x", linearizable=True))
    drive.run(drive.operations.accounts_of(["x", "y"], linearizable=True))
    assert [step.request.path for step in drive.tries] == [
        "/v1/accounts/x?consistency=linearizable",
        "/v1/accounts?ids=x%2Cy&consistency=linearizable&at_least=7",
    ]


@pytest.mark.parametrize("name", ["try_timeout_s", "backoff_s_min", "batch_max", "answer_bytes_max"])
def test_a_limit_of_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Limits(**{name: 0})


def test_a_deadline_in_the_past_is_refused() -> None:
    with pytest.raises(ValueError, match="deadline_s"):
        Drive([POSTED], deadline_s=-1)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.floats(0, 20)), max_size=40))
def test_a_server_can_always_be_picked_and_a_good_one_before_a_bad_one(
    events: list[tuple[int, bool, float]],
) -> None:
    urls = tuple(f"http://{n}" for n in range(4))
    every = [Server(url) for url in urls]
    servers, now, bad_until = Servers(urls), 0.0, dict.fromkeys(every, -1.0)
    for index, works, step_s in events:
        url = every[index]
        if works:
            servers.worked(url)
            bad_until[url] = -1.0
            assert servers.pick(now) == url
        else:
            servers.failed(url, until=now + 10)
            bad_until[url] = now + 10
        now += step_s
        good = {url for url in every if bad_until[url] <= now}
        assert servers.pick(now) in (good or every)


def test_every_error_of_the_client_is_a_ledger_error() -> None:
    assert issubclass(UnavailableError, LedgerError)
    assert issubclass(RefusedError, LedgerError)
