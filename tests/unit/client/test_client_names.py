"""A name stands for several servers: its answers are followed, and without answers the last good one goes on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.client.errors import NotDoneError
from fivenines.client.names import ANSWER_MAX, EARLIER_MAX, TTL_S_MIN, Addresses, Name, NoAddresses
from fivenines.client.retry import Limits, Try
from fivenines.client.servers import Server, Servers, is_address
from tests.unit.client.driving import UNREACHED, Came, Drive, reply

URL = "http://api.bank.test:9959"
HOST = "api.bank.test"
POSTED = reply(200, {"id": "t1", "outcome": "posted", "position": 7})
NOTHING = NoAddresses("no address of api.bank.test: 127.0.1.1:5353 says there is no such name")

addresses = st.integers(1, 6).map(lambda n: f"127.0.{n}.1")
answers = st.lists(addresses, min_size=1, max_size=4, unique=True).map(lambda found: Addresses(tuple(found), 2.0))


def post(drive: Drive) -> None:
    drive.run(drive.operations.post(source="a", destination="b", amount=1))


class Zone:
    """What a nameserver says, which a test changes."""

    def __init__(self, *found: str, ttl_s: float = 2.0) -> None:
        self.says: Addresses | NoAddresses | None = Addresses(found, ttl_s)
        self.dead: set[str | None] = set()

    def look_up(self, host: str) -> Addresses | NoAddresses | None:
        assert host == HOST
        return self.says

    def answer(self, step: Try) -> Came:
        return UNREACHED if step.server.address in self.dead else POSTED

    def drive(self, **options: float) -> Drive:
        return Drive(self.answer, urls=(URL,), look_up=self.look_up, **options)  # type: ignore[arg-type]


def test_the_first_address_of_the_answer_is_taken_and_kept_while_the_answer_has_it() -> None:
    zone = Zone("127.0.2.1", "127.0.1.1")
    drive = zone.drive()
    post(drive)
    zone.says = Addresses(("127.0.1.1", "127.0.2.1"), 2.0)
    for _ in range(5):
        drive.now += 3
        post(drive)
    assert set(drive.addresses) == {"127.0.2.1"}
    assert drive.tries[0].url == URL


def test_a_client_leaves_within_a_ttl_when_its_address_is_no_longer_in_the_answer() -> None:
    zone = Zone("127.0.1.1", "127.0.2.1")
    drive = zone.drive()
    post(drive)
    zone.says = Addresses(("127.0.3.1", "127.0.2.1"), 2.0)
    drive.now += 1.9
    post(drive)
    drive.now += 0.2
    post(drive)  # asks, and does not wait: with a real resolver it would still go where it went before
    post(drive)
    assert [drive.addresses[0], drive.addresses[1], drive.addresses[-1]] == ["127.0.1.1", "127.0.1.1", "127.0.3.1"]


def test_a_name_is_asked_for_once_in_a_ttl() -> None:
    drive = Zone("127.0.1.1", ttl_s=5).drive()
    for _ in range(100):
        post(drive)
        drive.now += 0.25
    assert [at - drive.began for _, at in drive.looked_up] == [0, 5, 10, 15, 20]


@pytest.mark.parametrize("says", [NOTHING, None])
def test_when_no_nameserver_answers_the_last_good_addresses_go_on_and_nobody_waits(says: NoAddresses | None) -> None:
    zone = Zone("127.0.1.1", "127.0.2.1")
    drive = zone.drive()
    post(drive)
    zone.says = says
    for _ in range(50):
        drive.now += 60
        before = drive.now
        post(drive)
        assert drive.now == before
    zone.dead = {"127.0.1.1"}
    post(drive)
    assert drive.addresses[-2:] == ["127.0.1.1", "127.0.2.1"]
    assert drive.slept == []


def test_addresses_of_earlier_answers_are_tried_when_those_of_the_last_one_fail() -> None:
    zone = Zone("127.0.1.1", "127.0.2.1")
    drive = zone.drive()
    post(drive)
    zone.says = Addresses(("127.0.3.1",), 2.0)
    drive.now += 3
    post(drive)
    zone.dead = {"127.0.3.1", "127.0.1.1"}
    post(drive)
    assert drive.addresses[-3:] == ["127.0.3.1", "127.0.1.1", "127.0.2.1"]
    drive.now += 1
    post(drive)
    assert drive.addresses[-1] == "127.0.2.1"


def test_a_name_that_does_not_exist_yet_is_asked_for_until_it_does() -> None:
    zone = Zone()
    zone.says = NOTHING
    drive = zone.drive()

    def look_up(host: str) -> Addresses | NoAddresses:
        return NOTHING if drive.now < drive.began + 5 else Addresses(("127.0.1.1",), 2.0)

    drive._look_up = look_up
    post(drive)
    assert drive.addresses == ["127.0.1.1"]
    assert 5 <= drive.now - drive.began < 10


@pytest.mark.parametrize(
    ("says", "reason"), [(NOTHING, r"no address of api\.bank\.test: 127\.0\.1\.1:5353"), (None, r"from a test")]
)
def test_a_name_without_any_address_is_told_with_whom_was_asked(says: NoAddresses | None, reason: str) -> None:
    zone = Zone()
    zone.says = says
    drive = zone.drive(deadline_s=10)
    with pytest.raises(NotDoneError, match=reason):
        post(drive)
    assert 8 <= drive.now - drive.began <= 10
    assert drive.tries == []


def test_an_unknown_name_does_not_keep_a_client_from_the_other_servers() -> None:
    drive = Drive([POSTED], urls=(URL, "http://127.0.0.1:1"), look_up=lambda _: None, limits=Limits(lookup_timeout_s=2))
    post(drive)
    assert drive.now - drive.began == 2
    post(drive)
    assert drive.now - drive.began == 2
    assert drive.urls == ["http://127.0.0.1:1"] * 2


def test_a_deadline_is_kept_even_while_a_name_is_waited_for() -> None:
    drive = Drive([POSTED], urls=(URL,), look_up=lambda _: None, deadline_s=0.05)
    with pytest.raises(NotDoneError):
        post(drive)
    assert drive.now - drive.began <= 0.05


@given(st.lists(st.one_of(answers, st.just(NOTHING)), max_size=20))
def test_what_is_remembered_is_bounded_and_the_last_good_answer_comes_first(
    heard: list[Addresses | NoAddresses],
) -> None:
    name, now = Name(HOST, asked="a test"), 0.0
    good: list[Addresses] = []
    for came in heard:
        name.heard(came, now)
        good += [came] if isinstance(came, Addresses) else []
        assert now + TTL_S_MIN <= name.ask_at <= now + 3600
        now += 1
    assert name.answer == (good[-1].addresses if good else ())
    assert not set(name.answer) & set(name.earlier)
    assert set(name.answer) | set(name.earlier) <= {address for came in good for address in came.addresses}
    assert len(name.earlier) <= EARLIER_MAX


def test_an_answer_with_very_many_addresses_is_cut() -> None:
    name = Name(HOST, asked="a test")
    name.heard(Addresses(tuple(f"10.0.{n // 250}.{n % 250}" for n in range(1000)), 0.0), 0.0)
    assert len(name.answer) == ANSWER_MAX
    assert name.ask_at == TTL_S_MIN


@given(
    st.lists(
        st.one_of(
            answers,
            st.just(NOTHING),
            st.tuples(addresses, st.booleans()),
        ),
        max_size=40,
    )
)
def test_whatever_happens_a_pick_is_known_and_none_in_the_answer_that_is_good_is_passed_over(
    events: list[Addresses | NoAddresses | tuple[str, bool]],
) -> None:
    servers, now = Servers((URL,), asked="a test"), 0.0
    assert servers.pick(now) is None
    for event in events:
        now += 0.1
        if isinstance(event, tuple):
            server = Server(URL, event[0])
            if event[1]:
                servers.worked(server)
            else:
                servers.failed(server, until=now + 10)
        else:
            servers.heard(HOST, event, now)
        picked = servers.pick(now)
        known = {*servers._listed, *servers._earlier}
        if not known:
            assert picked is None or picked == servers._current
            continue
        good = [server for server in servers._listed if servers._avoid_until.get(server, 0) <= now]
        assert picked is not None
        assert not good or servers._avoid_until.get(picked, 0) <= now
        assert picked in servers._listed or not good


@pytest.mark.parametrize(
    ("server", "origin", "host", "name"),
    [
        (Server("http://127.0.0.1:9959"), "http://127.0.0.1:9959", None, None),
        (Server("http://a.test:99", "10.0.0.1"), "http://10.0.0.1:99", "a.test:99", "a.test"),
        (Server("https://a.test/base", "::1"), "https://[::1]/base", "a.test", "a.test"),
        (
            Server("https://bücher.test:1", "10.0.0.1"),
            "https://10.0.0.1:1",
            "xn--bcher-kva.test:1",
            "xn--bcher-kva.test",
        ),
    ],
)
def test_an_address_is_connected_to_and_the_name_is_spoken_to(
    server: Server, origin: str, host: str | None, name: str | None
) -> None:
    assert (server.origin, server.host, server.name) == (origin, host, name)


@pytest.mark.parametrize(("host", "is_one"), [("127.0.0.1", True), ("::1", True), ("localhost", False), ("", False)])
def test_an_address_is_told_from_a_name(host: str, is_one: bool) -> None:
    assert is_address(host) is is_one
