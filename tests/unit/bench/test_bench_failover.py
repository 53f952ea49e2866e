import math
from pathlib import Path

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from bench.failover.__main__ import report_of, table_of
from bench.failover.figures import (
    FAULTS,
    Asked,
    Spread,
    Summary,
    Trial,
    judge_trial,
    ratio,
    summarize,
    troubles_of,
)
from bench.failover.load import Open, account
from bench.failover.peer import is_whole
from bench.failover.senders import watched
from bench.failover.settings import (
    FAILOVER_AT_ONCE,
    FASTEST,
    PORTS,
    Host,
    Timings,
    dsn,
    etcd_options,
    haproxy_config,
    patroni_config,
)
from bench.failover.trials import Outcome
from bench.machine import Machine
from fivenines.client.answers import ItemResult
from fivenines.client.retry import Call, Came, Try
from fivenines.client.servers import Server
from fivenines.client.wire import Failure, Reply, Request

HOSTS = [Host(name=f"host-{n}", address=f"10.9.{n}.1", folder=Path(f"/somewhere/host-{n}")) for n in (1, 2, 3)]
MACHINE = Machine("a processor", 2, 4.0, "Linux", "ext4", 0.2, "CPython", "etcd", "postgres", "wrk", 0.1)
WELL = [
    {"name": "host-1", "role": "leader", "state": "running", "timeline": 2},
    {"name": "host-2", "role": "sync_standby", "state": "running", "timeline": 2},
    {"name": "host-3", "role": "replica", "state": "running", "timeline": 2},
]
IN_STEP = [{"state": "streaming", "sync_state": "sync"}, {"state": "streaming", "sync_state": "async"}]


def trial(pause_s: float, *, failed: int = 0, lost: int = 0) -> Trial:
    return Trial(
        target="somebody",
        requests=100,
        longest_pause_s=pause_s,
        failed_requests=failed,
        first_tries_failed=7,
        lost=lost,
        whole_after_s=5.0,
        load_average=0.5,
    )


# --- how the peer is set up


@pytest.mark.parametrize("field", ["ttl", "loop_wait", "retry_timeout"])
def test_the_fastest_timings_are_at_the_bounds_that_patroni_allows(field: str) -> None:
    with pytest.raises(ValueError, match=field):
        msgspec.structs.replace(FASTEST, **{field: getattr(FASTEST, field) - 1})
    assert FASTEST.primary_start_timeout == 300, "what Patroni has by itself"
    assert FAILOVER_AT_ONCE.primary_start_timeout == 0


@given(ttl=st.integers(0, 60), loop_wait=st.integers(-1, 30), retry_timeout=st.integers(0, 30))
def test_timings_are_refused_exactly_when_patronis_manual_forbids_them(
    ttl: int, loop_wait: int, retry_timeout: int
) -> None:
    is_legal = ttl >= 20 and loop_wait >= 1 and retry_timeout >= 3 and loop_wait + 2 * retry_timeout <= ttl
    try:
        Timings(ttl=ttl, loop_wait=loop_wait, retry_timeout=retry_timeout)
    except ValueError:
        assert not is_legal
    else:
        assert is_legal


def test_patroni_is_told_to_acknowledge_only_what_two_hosts_have() -> None:
    text = patroni_config(HOSTS[1], HOSTS, timings=FASTEST, programs=Path("/programs"), network="10.9.0.1/16")
    config = yaml.safe_load(text)
    dcs = config["bootstrap"]["dcs"]
    assert dcs["synchronous_mode"] is True
    assert dcs["synchronous_mode_strict"] is True
    parameters = dcs["postgresql"]["parameters"]
    assert (parameters["fsync"], parameters["synchronous_commit"]) == ("on", "on")
    assert (dcs["ttl"], dcs["loop_wait"], dcs["retry_timeout"]) == (20, 1, 3)
    assert config["watchdog"] == {"mode": "off"}
    assert config["name"] == "host-2"
    assert config["postgresql"]["listen"] == f"10.9.2.1:{PORTS.postgres}"
    assert config["etcd"]["hosts"] == [f"10.9.{n}.1:{PORTS.etcd}" for n in (1, 2, 3)]


def test_haproxy_asks_every_host_whether_it_is_the_primary() -> None:
    config = haproxy_config(HOSTS, outside="10.9.0.1", timings=FASTEST)
    assert "uri /primary" in config
    assert "inter 500ms fall 2 rise 1 on-marked-down shutdown-sessions" in config
    for host in HOSTS:
        assert f"server {host.name} {host.address}:5432 check port 8008" in config
    assert f"bind 10.9.0.1:{PORTS.haproxy}" in config
    assert f"host=10.9.0.1 port={PORTS.haproxy} " in dsn("10.9.0.1")


def test_a_member_of_etcd_knows_all_others() -> None:
    options = etcd_options(HOSTS[0], HOSTS)
    cluster = options[options.index("--initial-cluster") + 1]
    assert cluster.split(",") == [f"{host.name}=http://{host.address}:2380" for host in HOSTS]
    assert options[options.index("--listen-client-urls") + 1] == "http://10.9.1.1:2379"
    assert "--enable-v2" in options
    assert options[options.index("--data-dir") + 1] == "/somewhere/host-1/etcd"


def test_a_peer_is_whole_when_all_hosts_are_in_step() -> None:
    assert is_whole(WELL, IN_STEP, hosts=3)


@pytest.mark.parametrize(
    ("members", "standbys"),
    [
        (WELL[:2], IN_STEP[:1]),
        ([*WELL[:2], WELL[2] | {"state": "starting"}], IN_STEP),
        ([*WELL[:2], WELL[2] | {"timeline": 1}], IN_STEP),
        ([WELL[0], WELL[2], WELL[2]], IN_STEP),
        ([WELL[0], WELL[0], WELL[1]], IN_STEP),
        (WELL, IN_STEP[:1]),
        (WELL, [IN_STEP[1], IN_STEP[1]]),
        (WELL, [IN_STEP[0], IN_STEP[1] | {"state": "catchup"}]),
        ([], []),
    ],
)
def test_a_peer_is_not_whole_while_anything_is_missing(
    members: list[dict[str, object]], standbys: list[dict[str, object]]
) -> None:
    assert not is_whole(members, standbys, hosts=3)


# --- what is counted


def test_a_trial_counts_the_requests_that_were_due_within_it() -> None:
    asked = [
        Asked(9.9, b"a", ended=25.0),
        Asked(10.0, b"b", ended=10.1),
        Asked(11.0, b"c", ended=14.5, is_first_failed=True),
        Asked(12.0, b"d", ended=13.0, error="refused"),
        Asked(20.0, b"e", ended=99.0),
    ]
    found = judge_trial(
        asked, target="a host", began=10.0, ended=20.0, whole_after_s=9.5, lost={b"b"}, load_average=1.0
    )
    assert found.requests == 3
    assert found.longest_pause_s == 3.5
    assert found.failed_requests == 1
    assert found.first_tries_failed == 2
    assert found.lost == 1
    assert found.errors == ("refused",)


def test_a_request_without_an_end_never_looks_quick() -> None:
    assert Asked(1.0).latency_s == math.inf


@given(
    st.lists(
        st.tuples(st.floats(0, 100), st.integers(0, 50), st.integers(0, 50)),
        min_size=1,
    )
)
def test_a_summary_is_within_its_trials_and_adds_up_what_is_counted(trials: list[tuple[float, int, int]]) -> None:
    found = summarize([trial(pause, failed=failed, lost=lost) for pause, failed, lost in trials])
    pauses = sorted(pause for pause, _, _ in trials)
    assert found.trials == len(trials)
    assert (found.longest_pause_s.min, found.longest_pause_s.max) == (pauses[0], pauses[-1])
    assert pauses[0] - 0.001 <= found.longest_pause_s.median <= pauses[-1] + 0.001
    assert found.failed_requests == sum(failed for _, failed, _ in trials)
    assert found.lost == sum(lost for _, _, lost in trials)
    assert found.first_tries_failed == 7 * len(trials)


def test_the_ratio_is_that_of_the_medians() -> None:
    ours, peers = summarize([trial(0.1), trial(0.3), trial(2.0)]), summarize([trial(3.0), trial(6.0), trial(9.0)])
    assert ratio(ours, peers) == 20.0


def test_whatever_falls_short_of_the_goal_is_said() -> None:
    good, bad = summarize([trial(0.3)]), summarize([trial(0.3, failed=2, lost=1)])
    assert troubles_of({"process_killed": good}, {"process_killed": 10.0}) == ()
    found = troubles_of({"process_killed": good, "host_cut_off": bad}, {"process_killed": 9.9})
    assert len(found) == 3
    assert "2 of our requests failed" in found[0]
    assert "1 of our acknowledged transactions are lost" in found[1]
    assert "9.9 times shorter, not 10" in found[2]


@given(st.permutations(range(12)), st.integers(0, 12))
def test_the_oldest_open_request_is_the_first_that_has_not_ended(order: list[int], count: int) -> None:
    requests = Open(1_000.3, 50.0)
    for number in order[:count]:
        requests.end(1_000.3 + number / 50.0)
    oldest = min(set(range(13)) - set(order[:count]))
    assert requests.since() == pytest.approx(1_000.3 + oldest / 50.0)


# --- what is written and shown


def test_the_report_has_the_keys_that_others_read() -> None:
    both: dict[str, Outcome] = {}
    for name, pause_s in (("fivenines", 0.4), ("patroni", 20.0)):
        summary: Summary = summarize([trial(pause_s), trial(pause_s + 1)])
        both[name] = Outcome(dict.fromkeys(FAULTS, summary), 2.5, {name: "1"}, {"hosts": "3"})
    report = report_of(both, MACHINE, rate_per_s=50.0)
    written = msgspec.json.decode(msgspec.json.encode(report))
    for name in ("fivenines", "patroni"):
        for fault in ("process_killed", "host_cut_off"):
            found = written[name][fault]
            assert found["trials"] == 2
            assert found["longest_pause_s"].keys() == {"min", "median", "max"}
            assert found["failed_requests"] == found["lost"] == 0
    assert written["ratios"] == {"process_killed": 22.8, "host_cut_off": 22.8}
    assert written["versions"] == {"fivenines": "1", "patroni": "1"}
    assert len(table_of(report).rows) == 4


def test_one_candidate_alone_can_be_told_of() -> None:
    outcome = Outcome({"node_killed": summarize([trial(0.1)])}, 2.5, {}, {})
    report = report_of({"fivenines": outcome}, MACHINE, rate_per_s=50.0)
    assert not report.patroni
    assert not report.ratios
    assert report.fivenines["node_killed"].longest_pause_s == Spread(0.1, 0.1, 0.1)
    assert len(table_of(report).rows) == 1


# --- the load


def test_accounts_have_the_names_that_the_peers_schema_knows() -> None:
    assert account(7) == "bench:000007"


RESULT = ItemResult(id="0", outcome="posted")
ANSWERED, BROKEN = Reply(status=200, position=1), Failure("cut_off", "it broke")


def course(steps: list[Try | None]) -> Call[ItemResult]:
    """Yield steps that were laid out before."""
    for step in steps:
        assert step is not None
        yield step
    return RESULT


def first_was_answered(*came: tuple[int, Reply | Failure] | None) -> bool:
    """Drive a call whose tries go to one server after the other; each answer names the try that it is of."""
    tries = [
        Try(Server(f"http://{n}"), Request(method="GET", path="/"), timeout_s=1.0, connect_timeout_s=1.0)
        for n in range(len(came))
    ]
    first: list[bool] = []
    call = watched(course(list(tries)), first)
    call.send(None)
    *before, last = (None if each is None else Came(tries[each[0]], each[1]) for each in came)
    for each in before:
        call.send(each)
    with pytest.raises(StopIteration) as end:
        call.send(last)
    assert end.value.value is RESULT, "what the call returns is passed on"
    return first[0]


@pytest.mark.parametrize(
    ("came", "is_good"),
    [
        ([(0, ANSWERED)], True),
        ([(0, BROKEN), (1, ANSWERED)], False),
        ([None, (1, ANSWERED)], False),
        ([None, (0, ANSWERED)], True),
        ([(0, Reply(status=503, position=1)), (1, ANSWERED)], False),
    ],
)
def test_a_first_try_that_fails_or_is_overtaken_is_noticed(
    came: list[tuple[int, Reply | Failure] | None], is_good: bool
) -> None:
    assert first_was_answered(*came) is is_good
