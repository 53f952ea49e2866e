"""`fivenines up` and the commands around it, as an operator uses them: on one platform with a service, that stays up.

The platform is that of `examples/platform.yaml` with a higher peak, so that N-1 is soon at stake. Each test leaves it
as it has found it: whole, with all regions serving.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dns.message
import dns.query
import httpx
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from fivenines.client import Ledger, new_id
from fivenines.platform.topology import PORTS
from tests.e2e.platforms import EXAMPLES, Played, left_of, played

pytestmark = [pytest.mark.alone, pytest.mark.timeout(600)]

PEAK_PER_S = 3_000
"""Two regions carry it, one does not: each node takes 1,000."""
LOAD_PER_S = 50.0


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """The platform."""
    folder = tmp_path_factory.mktemp("up")
    declared = yaml.safe_load((EXAMPLES / "platform.yaml").read_text())
    declared["peak_per_s"] = PEAK_PER_S
    declared["services"][0]["folder"] = str(EXAMPLES)
    (folder / "platform.yaml").write_text(yaml.safe_dump(declared))
    with played(folder / "data", declared=folder / "platform.yaml") as bank:
        yield bank


@pytest.fixture
def ledger(bank: Played) -> Iterator[Ledger]:
    """A client that finds the platform by its name."""
    topology = bank.platform.topology
    with Ledger(topology.url, nameservers=topology.nameservers, deadline_s=60) as ledger:
        ledger.create_asset("EUR/2")
        ledger.open_account("bank:cash", asset="EUR/2", min_balance=None)
        yield ledger


def named(bank: Played, name: str, region: str) -> set[str]:
    """The addresses with which a region's nameserver answers."""
    question = dns.message.make_query(f"{name}.bank.test", "A")
    answer = dns.query.udp(question, bank.platform.topology.region(region).host, port=PORTS.nameserver, timeout=30)
    return {str(each) for record in answer.answer for each in record}


def hosts(bank: Played, *regions: str) -> set[str]:
    return {bank.platform.topology.region(region).host for region in regions}


def until(holds: Callable[[], bool], seconds: float = 120.0) -> bool:
    """Wait for something; returns whether it came true."""
    end = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


def told(done: "subprocess.CompletedProcess[str]") -> list[dict[str, Any]]:
    """What a command has told in JSON, one object a line."""
    assert done.returncode == 0, done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def timeline(bank: Played) -> list[dict[str, Any]]:
    return told(bank.command("timeline", "--json", "--limit", "500"))


def workloads(bank: Played) -> dict[str, Any]:
    """How everything is that runs, by its name."""
    agents = bank.platform.agents
    return {each.name: each for region in bank.platform.regions for each in bank.do(agents.seen(region)).workloads}


def test_every_part_of_every_region_runs(bank: Played) -> None:
    found = workloads(bank)
    assert set(found) == {
        f"{region}-{part}"
        for region in ("eu-west", "eu-north", "us-east")
        for part in ("journal", "edge", "names", "1", "2", "controller", "history", "payments-1", "payments-2")
    }
    assert {name: each.state for name, each in found.items() if each.state != "ready"} == {}
    running = left_of(bank.platform.folder)
    for program in ("etcd --name us-east", "haproxy -db", "fivenines nameserver", "fivenines historian", "--name eu-"):
        assert program in running


def test_a_write_through_any_edge_is_read_through_every_other(bank: Played) -> None:
    urls = [bank.platform.topology.edge_url(region) for region in bank.platform.regions]
    account = f"edges:{new_id()}"
    position = 0
    for number, url in enumerate(urls, start=1):
        with Ledger(url, deadline_s=60) as ledger:
            ledger.create_asset("EUR/2")
            ledger.open_account("bank:cash", asset="EUR/2", min_balance=None)
            ledger.open_account(account, asset="EUR/2")
            done = ledger.post(source="bank:cash", destination=account, amount=number)
            assert done.outcome == "posted"
            assert done.position is not None
            assert done.position > position
            position = done.position
    for url in urls:
        answer = httpx.get(f"{url}/v1/accounts/{account}", headers={"Ledger-Position": str(position)}, timeout=60)
        assert answer.json()["balance"] in {6, "6"}


def test_the_ledger_is_found_by_its_name_from_every_region(bank: Played) -> None:
    topology = bank.platform.topology
    account = f"names:{new_id()}"
    for nameserver in topology.nameservers:
        with Ledger(topology.url, nameservers=(nameserver,), deadline_s=60) as ledger:
            ledger.create_asset("EUR/2")
            ledger.open_account("bank:cash", asset="EUR/2", min_balance=None)
            ledger.open_account(account, asset="EUR/2")
            assert ledger.post(source="bank:cash", destination=account, amount=1).outcome == "posted"
    everywhere = hosts(bank, *bank.platform.regions)
    for region in bank.platform.regions:
        answer = named(bank, "api", region)
        assert answer
        assert answer <= everywhere


def test_status_tells_how_everything_is(bank: Played) -> None:
    done = bank.command("status")
    assert done.returncode == 0, done.stdout + done.stderr
    for word in ("eu-west", "eu-north", "us-east", "serving", "leads", "follows", "error budget"):
        assert word in done.stdout
    (found,) = told(bank.command("status", "--json"))
    assert found["well"] is True
    assert found["platform"] == "bank"
    assert {name: region["state"]["phase"] for name, region in found["regions"].items()} == {
        "eu-west": "serving",
        "eu-north": "serving",
        "us-east": "serving",
    }
    assert sum(member["is_leader"] for member in found["members"]) == 1
    assert all(region["report"]["position"] > 0 for region in found["regions"].values())


def test_the_log_has_a_line_for_everything_with_its_region_and_part(bank: Played) -> None:
    lines = (bank.platform.folder / "platform.log").read_bytes().splitlines()
    found = [json.loads(line) for line in lines]
    assert {each["region"] for each in found} == set(bank.platform.regions)
    assert {each["part"] for each in found if each.get("event") == "workload.ready"} == set(workloads(bank))


def test_the_timeline_tells_what_was_decided_and_why(bank: Played) -> None:
    events = timeline(bank)
    began = [each for each in events if each["kind"] == "done" and "-> serving" in each["what"]]
    assert {each["target"] for each in began} == set(bank.platform.regions)
    assert all(each["why"] for each in began)
    assert "serving" in bank.command("timeline").stdout


def test_a_service_is_reached_through_edges_and_by_its_name_and_posts_to_the_ledger(
    bank: Played, ledger: Ledger
) -> None:
    customer = f"customers:{new_id()}"
    paid = 0
    for region in bank.platform.regions:
        addresses = named(bank, "payments", region)
        assert addresses
        for address in {*addresses, *hosts(bank, region)}:
            body = {"id": new_id(), "to": customer, "amount": 7}
            answers = [httpx.post(f"http://{address}:9980/pay", json=body, timeout=60) for _ in range(2)]
            assert [each.status_code for each in answers] == [201, 201], answers[0].text
            assert answers[0].json()["outcome"] == "posted"
            paid += 7  # once: a payment that is sent again is the same payment
    assert ledger.account(customer).balance == paid


def test_an_order_is_explained_before_it_is_given(bank: Played) -> None:
    before = [each["id"] for each in timeline(bank) if each["kind"] == "order"]
    done = bank.command("region", "evacuate", "us-east", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "will" in done.stdout
    assert "us-east" in done.stdout
    (found,) = told(bank.command("region", "evacuate", "us-east", "--dry-run", "--json"))
    assert [(each["region"], each["phase"]) for each in found["actions"]] == [("us-east", "evacuated")]
    assert bank.do(bank.platform.phases())["us-east"] == "serving"
    assert [each["id"] for each in timeline(bank) if each["kind"] == "order"] == before


def test_a_name_that_nobody_has_is_told_with_those_that_there_are(bank: Played) -> None:
    for words in (("region", "evacuate", "mars"), ("node", "drain", "mars-1"), ("node", "restart", "mars-1")):
        done = bank.command(*words)
        assert done.returncode == 1
        assert "mars" in done.stderr
        assert "eu-west" in done.stderr


def test_a_region_is_evacuated_and_returns_and_nobody_notices(bank: Played) -> None:
    everywhere, others = hosts(bank, *bank.platform.regions), hosts(bank, "eu-west", "eu-north")
    with bank.load(LOAD_PER_S) as load:
        began = time.monotonic()
        phases = told(bank.command("region", "evacuate", "us-east", "--why", "works on the power lines", "--json"))
        assert phases[-1]["phase"] == "evacuated"
        assert until(lambda: all(named(bank, "api", region) <= others for region in bank.platform.regions))

        # What remains would not carry the peak with one region less.
        refused = bank.command("region", "evacuate", "eu-north")
        assert refused.returncode == 1
        assert f"the peak is {PEAK_PER_S}" in refused.stderr
        assert "--override" in refused.stderr
        overridden = bank.command("region", "evacuate", "eu-north", "--override", "--dry-run")
        assert overridden.returncode == 0
        assert "safety overridden" in overridden.stdout
        assert bank.do(bank.platform.phases())["eu-north"] == "serving"

        status = bank.command("status")
        assert "ordered: evacuate us-east" in status.stdout
        assert "works on the power lines" in status.stdout
        (found,) = told(bank.command("region", "return", "us-east", "--dry-run", "--json"))
        assert [(each["region"], each["phase"]) for each in found["actions"]] == [("us-east", "reads")]
        assert "was taken back" in found["actions"][0]["reason"]
        assert bank.do(bank.platform.phases())["us-east"] == "evacuated"
        phases = told(bank.command("region", "return", "us-east", "--json"))
        assert phases[-1]["phase"] in {"reads", "few", "serving"}
        bank.do(bank.platform.wait_whole())
        assert until(
            lambda: any(named(bank, "api", region) & hosts(bank, "us-east") for region in bank.platform.regions)
        )
        assert named(bank, "api", "us-east") <= everywhere

        noticed = load.since(began, time.monotonic())
        assert noticed.failed == 0, noticed.errors
        judgement = load.judged()
    assert judgement.is_good, str(judgement)
    changes = [each["what"].split(",")[0] for each in timeline(bank) if each["what"].startswith("us-east -> ")]
    assert changes[-4:] == [f"us-east -> {phase}" for phase in ("evacuated", "reads", "few", "serving")]
    orders = [each for each in timeline(bank) if each["kind"] == "order"]
    assert "works on the power lines" in {each.get("why") for each in orders}


def test_a_node_is_drained_and_put_back_and_the_last_one_stays(bank: Played, ledger: Ledger) -> None:
    assert bank.command("node", "drain", "eu-west-1", "--why", "a look inside").returncode == 0
    assert until(lambda: workloads(bank)["eu-west-1"].is_drained)
    last = bank.command("node", "drain", "eu-west-2")
    assert last.returncode == 1
    assert "eu-west-2 stays as it is" in last.stderr
    url = bank.platform.topology.edge_url("eu-west")
    before = {each.name: each.requests for each in bank.do(bank.platform.agents.edge("eu-west")).servers}
    with Ledger(url, deadline_s=60) as through_edge:
        for _ in range(20):
            assert through_edge.account("bank:cash").id == "bank:cash"
    after = {each.name: each.requests for each in bank.do(bank.platform.agents.edge("eu-west")).servers}
    assert after["eu-west-1"] == before["eu-west-1"]
    assert after["eu-west-2"] >= before["eu-west-2"] + 20
    assert bank.command("node", "undrain", "eu-west-1").returncode == 0
    assert until(lambda: not workloads(bank)["eu-west-1"].is_drained)
    bank.do(bank.platform.wait_whole())
    assert bank.command("node", "undrain", "eu-west-1").returncode == 1, "nobody had ordered anything"
    assert ledger.platform().position > 0


def test_all_nodes_are_restarted_under_load_and_no_request_fails(bank: Played) -> None:
    nodes = [node for place in bank.platform.topology.regions for node in place.nodes]
    before = workloads(bank)
    with bank.load(100.0) as load:
        began = time.monotonic()
        restarted = told(bank.command("node", "restart", "--all", "--json", seconds=400))
        bank.do(bank.platform.wait_whole())
        noticed = load.since(began, time.monotonic())
        judgement = load.judged()
    assert [each["node"] for each in restarted] == nodes
    after = workloads(bank)
    assert all(after[node].pid != before[node].pid for node in nodes)
    assert noticed.failed == 0, noticed.errors
    assert judgement.is_good, str(judgement)
    assert judgement.failed == 0


def test_each_region_tells_the_metrics_of_all_its_parts_in_one_place(bank: Played) -> None:
    for place in bank.platform.topology.regions:
        text = httpx.get(f"{bank.platform.topology.agent_url(place.name)}/metrics", trust_env=False).text
        samples = [each for family in text_string_to_metric_families(text) for each in family.samples]
        answers = {each.labels["part"]: each.value for each in samples if each.name == "fivenines_part_answers"}
        kept = ("edge", "history", "journal", "names")
        assert answers == dict.fromkeys((*place.nodes, *(f"{place.name}-{part}" for part in kept)), 1.0)
        assert {each.labels["region"] for each in samples} == {place.name}
        up = {
            each.labels["server"]
            for each in samples
            if each.name == "haproxy_server_status" and each.labels["state"] == "UP" and each.value == 1
        }
        assert up >= set(place.nodes)


def test_a_second_one_in_the_same_folder_is_refused(bank: Played) -> None:
    done = bank.command("up", "--network", str(bank.network))
    assert done.returncode == 1
    assert f"started by process {bank.platform.pid}" in done.stderr
    assert "--folder" in done.stderr
    assert bank.platform.is_running


def test_addresses_that_another_platform_has_are_named(bank: Played, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fivenines", "up", "--folder", str(tmp_path / "other"), "--network", str(bank.network)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 1
    assert f"127.{bank.network}.1.1:{PORTS.edge}: Address already in use" in done.stderr
    assert "--network" in done.stderr
    assert left_of(tmp_path / "other") == ""
