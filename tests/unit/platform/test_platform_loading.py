from pathlib import Path
from textwrap import dedent

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.platform.loading import Mark, PlatformFileError, Problem, load, parse, read
from fivenines.platform.spec import Platform
from tests.unit.platform.platforms import any_platform

SMALLEST = """\
platform: bank
regions:
  - {name: frankfurt, provider: aws}
  - {name: belgium, provider: gcp}
  - {name: stockholm, provider: azure}
"""


def told(text: str) -> list[str]:
    """Return what is told about a text, each without the name of the file."""
    with pytest.raises(PlatformFileError) as caught:
        parse(dedent(text))
    return [str(problem).removeprefix("platform.yaml:") for problem in caught.value.problems]


def assert_is_read_or_refused(text: str) -> None:
    """Check that a text is a platform, or that everything that is wrong with it has a reason and a line."""
    try:
        problems: tuple[Problem, ...] = ()
        parse(text)
    except PlatformFileError as error:
        problems = error.problems
        assert problems
    assert all(problem.reason and (problem.mark or problem.reason == "is empty") for problem in problems)


def with_lines(*lines: str) -> str:
    """Return the smallest platform, with more fields after it: they begin in line 6."""
    return SMALLEST + "\n".join(lines)


def test_a_name_and_three_regions_are_a_platform() -> None:
    platform = parse(SMALLEST).platform
    assert platform.zone == "bank.test"
    assert [region.mode for region in platform.regions] == ["active"] * 3
    assert [region.nodes for region in platform.regions] == [2, 2, 2]
    assert all(region.point is not None for region in platform.regions)
    assert platform.member_regions == ("frankfurt", "belgium", "stockholm")


def test_who_says_only_where_to_ask_keeps_the_patience_of_each_probe() -> None:
    lines = (
        "services:",
        "  - name: payments",
        "    command: [./payments]",
        "    port: 8081",
        "    edge_port: 9980",
        "    probes: {startup: {path: /live}, liveness: {path: /live}}",
    )
    (asked,) = parse(with_lines(*lines)).platform.services
    (unasked,) = parse(with_lines(*lines[:-1])).platform.services
    for name in ("startup", "liveness"):
        probe = getattr(asked.probes, name)
        assert probe.path == "/live"
        assert msgspec.structs.replace(probe, path=None) == getattr(unasked.probes, name)
    assert asked.probes.startup.interval_s * asked.probes.startup.failures >= 30


def test_a_path_that_no_edge_can_ask_for_is_refused_with_its_line() -> None:
    lines = (
        "services:",
        "  - {name: pay, command: [./pay], port: 8081, edge_port: 9980, probes: {PROBE: {path: '/health:ready'}}}",
    )
    (found,) = told(with_lines(*(line.replace("PROBE", "readiness") for line in lines)))
    assert found.startswith("7:85: services[0].probes.readiness.path: '/health:ready' is not a path that begins with /")
    parse(with_lines(*(line.replace("PROBE", "liveness") for line in lines)))


@settings(max_examples=30)  # PyYAML is slow
@given(any_platform)
def test_what_is_written_down_is_read_again(platform: Platform) -> None:
    # JSON is YAML, and so is what PyYAML writes, which quotes what YAML 1.1 would misread.
    data = msgspec.json.decode(msgspec.json.encode(platform))
    assert parse(msgspec.json.encode(platform).decode()).platform == platform
    assert parse(yaml.safe_dump(data, allow_unicode=True)).platform == platform


@given(st.text(alphabet=st.sampled_from(":-{}[]'\"#&*!|>%@?,\n\t abct01.~<="), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    assert_is_read_or_refused(text)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*Platform.__struct_fields__, "name", "provider", "port", "x"]), inner)
    ),
    max_leaves=20,
)


@given(_json)
def test_any_data_is_read_or_refused_with_a_line(data: object) -> None:
    assert_is_read_or_refused(yaml.safe_dump(data))


def test_everything_that_is_wrong_is_told_at_once_in_the_order_of_lines() -> None:
    assert told("""\
        platform: Bank
        slo: 1.5
        regions:
          - {name: frankfurt, provider: aws, wieght: 1}
          - name: belgium
            mode: activ
            nodes: two
        servics: []
        """) == [
        "1:1: platform: 'Bank' is not a name of 1 to 40 small letters, digits and hyphens, the first a letter",
        "2:1: slo: must be less than 1, not 1.5",
        "4:38: regions[0].wieght: is not known here; did you mean 'weight'?",
        "5:5: regions[1]: has no 'provider'; it needs name and provider",
        "6:5: regions[1].mode: 'activ' is none of active, standby; did you mean 'active'?",
        "7:5: regions[1].nodes: must be a whole number, not text ('two')",
        "8:1: servics: is not known here; did you mean 'services'?",
    ]


WRONG = """
zone: no
    6:1: zone: 'no' is not a DNS zone such as bank.example.com
slo: no
    6:1: slo: must be a number, not text ('no')
peak_per_s: 1:30
    6:1: peak_per_s: must be a number, not text ('1:30')
peak_per_s: 1_000
    6:1: peak_per_s: must be a number, not text ('1_000')
peak_per_s: .nan
    6:13: peak_per_s: .nan is no number that can be used here
peak_per_s: 2026-11-27
    6:1: peak_per_s: must be a number, not text ('2026-11-27')
peak_per_s:
    6:1: peak_per_s: must be a number, not nothing
sql: 5432
    6:1: sql: must be text, not a whole number (5432); put it in quotes: "5432"
sql: true
    6:1: sql: must be text, not true; put it in quotes: "true"
sql: !!python/object/apply:os.system [x]
    6:6: sql: has the tag 'tag:yaml.org,2002:python/object/apply:os.system'; tags have no meaning here: leave it out
traffic: {policy: gep}
    6:11: traffic.policy: 'gep' is none of weighted, latency, geo, failover; did you mean 'geo'?
traffic: {policy: x}
    6:11: traffic.policy: 'x' is none of weighted, latency, geo, failover
traffic: fast
    6:1: traffic: must be fields with values, not text ('fast')
traffic: {networks: [{network: 10.0.0.0/8, location: frankfrt}]}
    6:44: traffic.networks[0].location: 'frankfrt' is no well-known place; did you mean 'frankfurt'?
traffic: {networks: [{network: 10.0.0.0/8, location: {latitude: 91, longitude: 0}}]}
    6:55: traffic.networks[0].location.latitude: must be at most 90, not 91
accepts: {provider_los: because I say so}
    6:11: accepts.provider_los: is not known here; did you mean 'provider_loss'?
accepts: {provider_loss: why}
    6:11: accepts.provider_loss: must have at least 8 characters
services: [{name: a, command: [], port: 1, edge_port: 2}]
    6:22: services[0].command: must not be empty
services: [{name: a, command: run, port: 1, edge_port: 2}]
    6:22: services[0].command: must be a list, not text ('run')
timings: {look: 1}
    6:11: timings.look: is not known here; did you mean 'look_s'?
platform: other
    6:1: platform: is there twice, first in line 1; keep one of the two
? [a, b]
    6:3: has a key that is no word
"""
"""Lines, and what is told about each."""


@pytest.mark.parametrize(("line", "expected"), list(zip(*[iter(WRONG.strip().splitlines())] * 2, strict=True)))
def test_what_is_wrong_is_told_with_its_line(line: str, expected: str) -> None:
    assert told(with_lines(line)) == [expected.strip()]


@pytest.mark.parametrize(
    ("line", "field", "value"),
    [
        ("sql: off", "sql", "off"),
        ("peak_per_s: 010", "peak_per_s", 10),
        ("peak_per_s: 0x10", "peak_per_s", 16),
        ("peak_per_s: 1e3", "peak_per_s", 1_000),
        ("zone: ''", "zone", "bank.test"),
        ("zone: bank.example.com", "zone", "bank.example.com"),
    ],
)
def test_plain_words_mean_what_they_look_like(line: str, field: str, value: object) -> None:
    assert getattr(parse(with_lines(line)).platform, field) == value


def test_what_is_no_yaml_is_told_with_its_line() -> None:
    with_tab = told("platform: bank\nregions:\n\t- x\n")
    assert with_tab[0].startswith("3:1: is no YAML: found character '\\t' that cannot start any token")
    assert with_tab[0].endswith("; indent with spaces")
    assert told("platform: [bank\n")[0].startswith("2:1: is no YAML: ")
    assert told("platform: \x00\n") == ["1:11: is no YAML: the character 0"]
    assert told("a: *b\n") == ["1:4: is no YAML: found undefined alias 'b'"]
    assert told("a: 1\n---\nb: 2\n")[0].startswith("2:1: is no YAML: ")


def test_an_empty_file_and_a_list_are_no_platform() -> None:
    assert told("# nothing\n")[0].startswith(" is empty; the smallest one names a platform and its regions")
    assert told("- a\n") == ["1:1: must be fields with values, not a list"]


def test_aliases_are_read_and_cannot_make_a_file_endless() -> None:
    declared = parse(SMALLEST + "services:\n  - &pay {name: a, command: [x], port: 1, edge_port: 2}\n  - *pay\n")
    assert declared.platform.services[0] == declared.platform.services[1]
    assert any(each.endswith("is within itself, by the alias of line 1") for each in told("a: &a {b: *a}\n"))
    bomb = "\n".join(f"x{n}: &x{n} [{', '.join([f'*x{n - 1}'] * 9 if n else ['1'] * 9)}]" for n in range(9))
    assert any("has more than 100,000 values" in each for each in told(bomb))


def test_the_line_of_what_is_left_out_is_that_of_what_it_would_be_in() -> None:
    declared = parse(with_lines("journal:", "  quota_mib: 100"))
    assert declared.mark(("journal", "quota_mib")) == Mark(7, 3)
    assert declared.mark(("journal", "members")) == Mark(6, 1)
    assert declared.mark(("regions", 1, "archive")) == Mark(4, 5)
    assert declared.mark(("traffic", "ttl_s")) == Mark(1, 1)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "platform.yaml"
    file.write_bytes(b"platform: \xff\xfe")
    with pytest.raises(PlatformFileError, match="is not text in UTF-8"):
        load(file)
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "none.yaml")
    file.write_text(SMALLEST, encoding="utf-8")
    assert read(file).platform == parse(SMALLEST).platform
