"""A clean stop under load: what was taken is answered, what was answered is there, and the next start is quick."""

import time
from pathlib import Path

import httpx

from tests.e2e.ledger_load import Load
from tests.e2e.serving import Server, raw_exchange


def test_stopped_under_load_nothing_answered_is_lost_and_nothing_is_replayed(tmp_path: Path) -> None:
    load = Load(7)
    port = "0"
    for number in range(5):
        with Server(tmp_path / "data", "--snapshot-every", "100", "--port", port) as server:
            # The port is free again at once, and nobody else has taken it.
            port = str(server.port)
            load.open_accounts(server.port)
            load.ask_again(server.port)
            load.check(server.port)
            with load.running(server.port):
                time.sleep(0.1 + number * 0.05)
                assert server.stop() == 0
            assert "Traceback" not in server.log
            assert server.log.count('"event": "node.stopped"') == number + 1
            assert server.log.count('"frames_replayed": 0') == number + 1
    assert load.refusals == []
    with Server(tmp_path / "data") as server:
        load.ask_again(server.port)
        load.check(server.port, sample=200)


def test_snapshots_under_load_fail_no_request(tmp_path: Path) -> None:
    load = Load(8)
    with Server(tmp_path / "data", "--snapshot-every", "50") as server:
        load.open_accounts(server.port)
        with load.running(server.port) as stop:
            while server.log.count("snapshot.written") < 10:
                time.sleep(0.05)
            stop()
        assert (load.errors, load.refusals) == ([], [])
        assert all(item.outcome for item in load.items)
        load.check(server.port, sample=100)


def test_a_thousand_requests_in_one_go_are_answered_in_order(tmp_path: Path) -> None:
    with Server(tmp_path / "data") as server:
        path = [b"/live", b"/v1/platform", b"/nope"]
        requests = b"".join(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % path[number % 3] for number in range(1_000))
        answers = raw_exchange(server.port, requests)
        statuses = [part[:3] for part in answers.split(b"HTTP/1.1 ")[1:]]
        assert statuses == [[b"200", b"200", b"404"][number % 3] for number in range(1_000)]
        assert httpx.get(f"{server.url}/live").status_code == 200
