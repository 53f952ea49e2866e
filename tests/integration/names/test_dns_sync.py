import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from octodns.provider.yaml import YamlProvider
from typer.testing import CliRunner

from fivenines.cli import app
from fivenines.traffic.table import SteeringTable, write_table
from tests.unit.names.tables import region, table

PLATFORM = """
platform: bank
zone: bank.test
regions:
  - {name: eu-west, provider: aws, location: dublin}
  - {name: eu-north, provider: gcp, location: stockholm}
  - {name: us-east, provider: azure, location: n-virginia, mode: standby}
services:
  - {name: pay, command: [pay], port: 8000, edge_port: 8443, probes: {readiness: {path: /well}}}
traffic: {policy: failover, ttl_s: 5}
"""


class PlainProvider(YamlProvider):  # type: ignore[misc] # octoDNS has no types
    """A provider that knows no dynamic records, and puts up with those that ask for them."""

    SUPPORTS_DYNAMIC = False


class BrokenProvider(YamlProvider):  # type: ignore[misc] # octoDNS has no types
    """A provider whose API is away."""

    def _apply(self, plan: object) -> None:
        del plan
        raise ConnectionError("the provider does not answer")


class Place:
    """A provider's folder, and the commands that hand a zone to it."""

    def __init__(self, folder: Path, class_: str = "octodns.provider.yaml.YamlProvider") -> None:
        self.folder = folder
        self.zones = folder / "zones"
        self.zones.mkdir()
        self.config = folder / "octodns.yaml"
        provider = {"class": class_, "directory": str(self.zones), "escaped_semicolons": False}
        self.config.write_text(yaml.safe_dump({"providers": {"cloud": provider}}))

    def steer(self, steered: SteeringTable) -> Path:
        write_table(self.folder / "steering.json", steered)
        return self.folder / "steering.json"

    def sync(self, source: Path, *options: str) -> dict[str, Any]:
        done = CliRunner().invoke(app, ["dns", "sync", str(source), "--config", str(self.config), "--json", *options])
        assert done.exit_code == 0, done.output + done.stderr
        found = json.loads(done.stdout)
        assert isinstance(found, dict)
        return found

    def records(self) -> dict[str, Any]:
        """What the provider has, without the markers."""
        found = yaml.safe_load((self.zones / "bank.test.yaml").read_text())
        return {name: record for name, record in found.items() if not name.startswith("_fivenines.")}


def changes(found: dict[str, Any]) -> list[tuple[str, str]]:
    return [(change["action"], change["name"]) for change in found["changes"] if not change["is_marker"]]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def test_a_dry_run_shows_everything_and_changes_nothing(place: Place) -> None:
    source = place.steer(table())
    for options in ((), ("--dry-run",)):
        found = place.sync(source, *options)
        assert ("create", "api.bank.test.") in changes(found)
        assert found["applied"] == 0
        assert not found["is_applied"]
    assert not list(place.zones.iterdir())


def test_what_is_applied_is_there_and_the_second_time_changes_nothing(place: Place) -> None:
    source = place.steer(table())
    first = place.sync(source, "--apply")
    assert first["applied"] == len(first["changes"]) == 8
    assert set(place.records()) == {"api", "eu-west", "eu-north", "us-east"}
    assert place.records()["api"]["dynamic"]["rules"] == [{"pool": "served"}]
    second = place.sync(source, "--apply")
    assert not second["changes"]
    assert not second["applied"]


def test_a_region_that_is_lost_is_a_change_of_the_steered_name_alone(place: Place) -> None:
    place.sync(place.steer(table()), "--apply")
    lost = table(
        *(region(name, n, share=float(n != 2)) for n, name in enumerate(("eu-west", "eu-north", "us-east"), 1))
    )
    found = place.sync(place.steer(lost), "--apply")
    assert changes(found) == [("update", "api.bank.test.")]
    pools = place.records()["api"]["dynamic"]["pools"]
    assert [value["value"] for value in pools["others"]["values"]] == ["192.0.2.2"]


def test_records_of_others_are_left_alone_and_ours_go_when_they_are_done_with(place: Place) -> None:
    other = {"type": "A", "ttl": 300, "value": "203.0.113.80"}
    (place.zones / "bank.test.yaml").write_text(yaml.safe_dump({"www": other}))
    place.sync(place.steer(table(names=("api", "pay"))), "--apply")
    found = place.sync(place.steer(table(names=("api",))), "--apply")
    assert changes(found) == [("delete", "pay.bank.test.")]
    assert place.records()["www"] == other
    assert "pay" not in place.records()


def test_a_provider_without_dynamic_records_gets_plain_ones_and_a_notice(tmp_path: Path) -> None:
    place = Place(tmp_path, f"{__name__}.PlainProvider")
    steered = table(region("eu-west", 1), region("eu-north", 2), region("us-east", 3, share=0.0))
    found = place.sync(place.steer(steered), "--apply")
    assert any("does not know dynamic records" in notice for notice in found["notices"])
    assert place.records()["api"] == {"type": "A", "ttl": 2, "values": ["192.0.2.1", "192.0.2.2"]}
    assert not place.sync(place.steer(steered), "--apply")["changes"]


def test_a_platform_that_is_only_declared_is_handed_over_with_addresses(place: Place) -> None:
    source = place.folder / "platform.yaml"
    source.write_text(PLATFORM)
    given = [f"--address={name}=203.0.113.{n}" for n, name in enumerate(("eu-west", "eu-north", "us-east"), 1)]
    place.sync(source, "--apply", *given)
    records = place.records()
    assert records["api"]["dynamic"]["rules"] == [{"pool": "region-eu-west"}]
    assert records["api"]["dynamic"]["pools"]["region-eu-north"]["fallback"] == "others", "the standby comes last"
    assert records["pay"]["octodns"]["healthcheck"] == {"protocol": "HTTP", "port": 8443, "path": "/well"}
    assert records["api"]["ttl"] == 5


def test_people_see_a_table(place: Place) -> None:
    source = place.steer(table())
    command = ["dns", "sync", str(source), "--target", "octodns.provider.yaml:YamlProvider"]
    options = [f"--option=directory={place.zones}", "--option=escaped_semicolons=false"]
    done = CliRunner().invoke(app, [*command, *options])
    assert done.exit_code == 0, done.output
    assert "api.bank.test." in done.stdout
    assert "everybody -> served" in done.stdout
    assert "none made: --apply makes them" in done.stdout
    assert "_fivenines" not in done.stdout, "markers are only counted"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--apply", "--dry-run"], "contradict each other"),
        (["--target", "nobody"], "there is no provider 'nobody', but cloud"),
        (["--option", "a=b"], "--option belongs to --target"),
        (["--address", "mars=192.0.2.1"], "there is no region mars"),
        (["--address", "eu-west"], "'eu-west' is not REGION=IP"),
        (["--address", "eu-west=nowhere"], "'nowhere' is no IP address"),
        (["--check", "gopher://:70"], "another scheme"),
        (["--check", "http://host"], "has no port"),
    ],
)
def test_what_is_asked_wrongly_is_told(place: Place, options: list[str], said: str) -> None:
    source = place.steer(table())
    done = CliRunner().invoke(app, ["dns", "sync", str(source), "--config", str(place.config), *options])
    assert done.exit_code == 1
    assert said in done.stderr.replace("\n", " ")


def test_a_provider_that_fails_is_told_by_its_own_words(tmp_path: Path) -> None:
    place = Place(tmp_path, f"{__name__}.BrokenProvider")
    source = place.steer(table())
    done = CliRunner().invoke(app, ["dns", "sync", str(source), "--config", str(place.config), "--apply"])
    assert done.exit_code == 1
    assert "ConnectionError: the provider does not answer" in done.stderr


def test_a_platform_without_addresses_asks_for_them(place: Place) -> None:
    source = place.folder / "platform.yaml"
    source.write_text(PLATFORM)
    done = CliRunner().invoke(app, ["dns", "sync", str(source), "--config", str(place.config)])
    assert done.exit_code == 1
    assert "where are the edges of eu-west, eu-north, us-east?" in done.stderr
    assert "--address eu-west=IP" in done.stderr


def test_without_octodns_the_error_names_the_extra(place: Place) -> None:
    source = place.steer(table())
    code = (
        "import sys; sys.modules['octodns'] = None; from fivenines.cli import app; "
        f"sys.argv[1:] = ['dns', 'sync', {str(source)!r}, '--config', {str(place.config)!r}]; app()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True, timeout=60)
    assert done.returncode == 1
    assert "pip install 'fivenines[dns]'" in done.stderr
