"""The configuration as text; that HAProxy takes it is asked where HAProxy is: tests/integration/edge."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fivenines.traffic.edge import (
    EdgeSettings,
    RateLimit,
    Server,
    Service,
    TcpProxy,
    Timeouts,
    command,
    config,
)
from fivenines.traffic.edge.config import LATENCY_BOUNDS_MS
from fivenines.traffic.edge.runtime import quantile


def server(name: str, port: int = 9961, host: str = "127.0.1.1") -> Server:
    return Server(name=name, host=host, port=port)


def settings(**more: Any) -> EdgeSettings:
    given: dict[str, Any] = {
        "region": "eu-west",
        "host": "127.0.1.1",
        "port": 9959,
        "nodes": (server("eu-west-1"), server("eu-west-2", 9962)),
        "admin_socket": Path("/run/edge/admin.sock"),
        "statistics_port": 9404,
    }
    return EdgeSettings(**(given | more))


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines of each section, by its head."""
    parts = [part.splitlines() for part in text.split("\n\n")]
    return {head: [line.strip() for line in lines] for head, *lines in parts}


def servers_of(text: str) -> dict[str, list[str]]:
    """Return the names of the servers of each backend, in order."""
    return {
        head.removeprefix("backend "): [line.split()[1] for line in lines if line.startswith("server ")]
        for head, lines in sections(text).items()
        if head.startswith("backend ")
    }


def test_nodes_stand_in_each_tier_and_other_edges_behind_them_in_order_of_nearness() -> None:
    far = (server("eu-north", 9959, "127.0.2.1"), server("us-east", 9959, "127.0.3.1"))
    found = servers_of(config(settings(elsewhere=far)))
    nodes, edges = ["eu-west-1", "eu-west-2"], ["eu-north", "us-east"]
    assert found["ledger"] == nodes + edges
    assert found["ledger.here"] == nodes
    assert found["ledger.last"] == nodes
    assert found["ledger.elsewhere"] == edges + nodes
    lines = sections(config(settings(elsewhere=far)))
    assert all(" backup" in line for line in lines["backend ledger"] if "eu-north" in line or "us-east" in line)
    assert not any(" check " in line for line in lines["backend ledger.last"])


def test_without_other_regions_nothing_is_sent_on() -> None:
    text = config(settings())
    assert "ledger.elsewhere" not in text
    assert " backup" not in text


def test_each_pool_has_its_own_port_and_its_last_resort() -> None:
    text = config(
        settings(
            services=(
                Service(name="shop", mode="http", port=8001, servers=(server("shop-1", 8101),), health_path="/healthz"),
                Service(name="raw", mode="tcp", port=8002, servers=(server("raw-1", 8102),)),
            ),
            tcp_proxies=(TcpProxy(name="journal", port=2379, servers=(server("etcd1", 2380),)),),
        )
    )
    found = sections(text)
    for pool, port in (("ledger", 9959), ("shop", 8001), ("raw", 8002), ("journal", 2379)):
        assert f"bind 127.0.1.1:{port}" in found[f"frontend {pool}"]
        assert f"default_backend {pool}.last" in found[f"frontend {pool}"]
        assert f"backend {pool}.last" in found
    assert "option httpchk GET /healthz" in found["backend shop"]
    assert "mode tcp" in found["backend journal"]


def test_a_rate_limit_is_a_burst_in_the_time_in_which_it_is_allowed_again() -> None:
    assert "track-sc0" not in config(settings())
    text = config(settings(rate_limit=RateLimit(requests_per_s=50, burst=100)))
    assert "store http_req_rate(2000ms)" in text
    assert "sc_http_req_rate(0) gt 100" in text


def test_an_ipv6_address_stands_in_brackets() -> None:
    text = config(settings(host="::1", nodes=(server("n", 9961, "fd00::1"),)))
    assert "bind [::1]:9959" in text
    assert "server n [fd00::1]:9961 " in text


def test_other_edges_are_trusted_by_their_address() -> None:
    far = (server("eu-north", 9959, "127.0.2.1"), server("us-east", 9959, "edge.us-east.bank.test"))
    assert "acl is_trusted src 10.0.0.0/8 127.0.2.1\n" in config(settings(elsewhere=far, trusted=("10.0.0.0/8",)))
    assert "acl is_trusted always_false" in config(settings())


def test_a_reload_asks_the_process_before_for_its_sockets() -> None:
    path, socket = Path("haproxy.cfg"), Path("admin.sock")
    assert command("haproxy", path) == ["haproxy", "-db", "-f", "haproxy.cfg"]
    assert command("haproxy", path, reload_of=7, socket=socket)[-4:] == ["-sf", "7", "-x", "admin.sock"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"region": "eu west"}, "region: is 1 to 64"),
        ({"host": "127.0.0.1 ssl"}, "edge: the host"),
        ({"port": 0}, "edge: the port"),
        ({"nodes": (server("n"), server("n"))}, "'n' is there twice"),
        ({"elsewhere": (server("eu-west-1"),)}, "'eu-west-1' is there twice"),
        ({"admin_socket": Path("/" + "x" * 100)}, "admin_socket: 101 bytes are too long"),
        ({"admin_socket": Path("/run/my edge/sock")}, "admin_socket: no blanks"),
        ({"state_file": Path("/run/a\nb")}, "state_file: no blanks"),
        ({"buffer_bytes": 1000}, "buffer_bytes: must be 16 KiB"),
        ({"connections_max": 0}, "connections_max: must be at least 1"),
        ({"trusted": ("10.0.0.0/99",)}, "trusted: "),
        ({"statistics_port": 9959}, "ports: '9959' is there twice"),
        ({"services": (Service(name="ledger", mode="http", port=1, servers=()),)}, "'ledger' is there twice"),
        ({"services": (Service(name="a.last", mode="http", port=1, servers=()),)}, "no dot in 'a.last'"),
    ],
)
def test_what_is_wrong_is_named_with_its_field(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        settings(**wrong)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Timeouts(answer_s=3), "they must nest: all tries together (9 s) below elsewhere_s (5.4 s)"),
        (lambda: Timeouts(elsewhere_s=7), "elsewhere_s (7 s) below client_try_s (6 s)"),
        (lambda: Timeouts(check_s=0), "timeouts.check_s: must be above 0"),
        (lambda: RateLimit(requests_per_s=0, burst=1), "rate_limit.requests_per_s: must be above 0"),
        (lambda: RateLimit(requests_per_s=1, burst=0), "rate_limit.burst: must be at least 1"),
        (lambda: server("n;x"), "server.name: is 1 to 64"),
        (lambda: server("n", 70_000), "server n: the port"),
        (lambda: Service(name="s", mode="http", port=1, servers=(), health_path="/a b"), "health_path is a path"),
        (lambda: Service(name="s", mode="tcp", port=1, servers=(), elsewhere=(server("x"),)), "elsewhere is for http"),
        (lambda: Service(name="s", mode="http", port=1, servers=(), answer_s=0), "answer_s must be above 0"),
        (lambda: TcpProxy(name="s", port=0, servers=()), "tcp_proxy s: the port"),
    ],
)
def test_parts_are_checked_when_they_are_made(make: Any, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        make()


@given(st.text(), st.text(), st.text())
def test_no_name_and_no_address_can_add_a_line(name: str, host: str, path: str) -> None:
    plain = config(settings(nodes=(server("n"),), services=(Service(name="s", mode="http", port=1, servers=()),)))
    try:
        made = settings(
            nodes=(server(name, host=host),),
            services=(Service(name="s", mode="http", port=1, servers=(), health_path=path),),
        )
    except ValueError:
        return
    assert len(config(made).splitlines()) == len(plain.splitlines()) + 1


@given(st.lists(st.integers(0, 1000), min_size=12, max_size=12), st.floats(0.01, 1), st.floats(0.01, 1))
def test_a_quantile_lies_in_the_step_of_its_answer_and_grows_with_its_share(
    steps: list[int], one: float, other: float
) -> None:
    less, more = quantile(steps, min(one, other)), quantile(steps, max(one, other))
    if not sum(steps):
        assert less is None
        assert more is None
        return
    assert less is not None
    assert more is not None
    assert less <= more <= LATENCY_BOUNDS_MS[-1]
    answers = sorted(
        bound
        for count, bound in zip(steps, (*LATENCY_BOUNDS_MS, LATENCY_BOUNDS_MS[-1]), strict=True)
        for _ in range(count)
    )
    at = next(bound for rank, bound in enumerate(answers, 1) if rank >= len(answers) * max(one, other))
    assert more <= at
