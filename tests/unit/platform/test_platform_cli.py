import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from fivenines.cli.output import CommandFailedError
from fivenines.cli.plan import check_placement, read_declared, register
from fivenines.platform.loading import load
from fivenines.platform.placement import check
from fivenines.platform.schema import TYPES, field_docs, json_schema, reference

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = sorted((ROOT / "examples").glob("platform*.yaml"))
REFUSED = "platform: bank\nregions:\n- {name: frankfurt, provider: aws}\n- {name: belgium, provider: aws}\n"


def run(*arguments: str) -> tuple[int, str]:
    """Run a command as a user does, and return its status and output."""
    app = typer.Typer()
    register(app)
    result = CliRunner(env={"COLUMNS": "100", "TERM": "dumb"}).invoke(app, list(arguments))
    return result.exit_code, result.output


# --- plan -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_accepted_and_its_plan_fits_a_terminal(example: Path) -> None:
    platform = load(example)
    assert [finding for finding in check(platform) if finding.severity == "refused"] == []
    status, output = run("plan", str(example))
    assert status == 0
    plan, _, findings = output.partition("╰─")
    assert findings
    assert max(map(len, plan.splitlines())) <= 100
    for region in platform.regions:
        assert f"region {region.name}" in plan


def test_the_plan_of_the_world_says_what_is_wrong_and_what_is_right() -> None:
    words = " ".join(re.sub(r"[│\s]+", " ", run("plan", str(ROOT / "examples/platform-world.yaml"))[1]).split())
    assert "Active-active across these distances is the wrong choice" in words
    assert "Active-standby is the right one: frankfurt, belgium and n-virginia active" in words
    words = " ".join(run("plan", str(ROOT / "examples/platform-world-standby.yaml"))[1].split())
    assert "Active-standby is right across these distances" in words


def test_programs_get_the_plan_as_one_object() -> None:
    status, output = run("plan", str(ROOT / "examples/platform.yaml"), "--json")
    facts: dict[str, Any] = json.loads(output)
    assert status == 0
    assert facts["findings"] == []
    assert {each["kind"] for each in facts["losses"]} >= {"node", "journal_leader", "region", "provider", "everything"}
    assert facts["verdict"]["kind"] == "right"


def test_what_is_refused_is_listed_with_its_line_and_ends_with_status_1(tmp_path: Path) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text(REFUSED, encoding="utf-8")
    status, output = run("plan", str(file))
    assert status == 1
    assert f"✗ {file}:2: regions: the journal has 2 members" in output
    assert "refused: " in output
    status, output = run("plan", str(file), "--json")
    assert status == 1
    assert {"refused"} <= {each["severity"] for each in json.loads(output)["findings"]}


def test_a_file_that_is_no_platform_is_told_with_all_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text("platform: bank\nregionz: []\nslo: high\n", encoding="utf-8")
    status, output = run("plan", str(file))
    assert status == 1
    assert f"{file}:2:1: regionz: is not known here; did you mean 'regions'?" in output
    assert f"{file}:3:1: slo: must be a number, not text ('high')" in output
    status, output = run("plan", str(tmp_path / "none.yaml"))
    assert (status, "No such file" in output) == (1, True)


def test_without_a_file_there_is_a_platform_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    declared = read_declared(None)
    assert check(declared.platform) == []
    assert len(declared.platform.regions) == 3
    (tmp_path / "platform.yaml").write_text(REFUSED, encoding="utf-8")
    with pytest.raises(CommandFailedError, match=r"platform\.yaml:2: regions: the journal has 2 members"):
        check_placement(read_declared(None))


# --- the schema and the reference ------------------------------------------------------------------------------------


def test_the_published_schema_is_that_of_the_types() -> None:
    """If this fails: `fivenines schema > docs/platform.schema.json`."""
    status, output = run("schema")
    assert status == 0
    assert (ROOT / "docs" / "platform.schema.json").read_text(encoding="utf-8") == output


def test_the_schema_leaves_nothing_to_guess() -> None:
    schema = json_schema()
    references = set(re.findall(r"#/\$defs/(\w+)", json.dumps(schema)))
    assert references == set(schema["$defs"])
    for kind in TYPES:
        part = schema["$defs"][kind.__name__]
        assert part["additionalProperties"] is False
        assert set(part["properties"]) == set(kind.__struct_fields__)


@pytest.mark.parametrize("kind", [each for each in TYPES if each.__module__ == "fivenines.platform.spec"])
def test_every_field_says_what_it_means(kind: type) -> None:
    docs = field_docs(kind)
    assert set(docs) == set(kind.__struct_fields__)  # type: ignore[attr-defined]  # they are structs
    assert all(text.endswith(".") for text in docs.values())


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_editors_find_the_schema_from_the_examples(example: Path) -> None:
    first = example.read_text(encoding="utf-8").splitlines()[0]
    found = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    assert found
    assert (example.parent / found[1]).resolve() == ROOT / "docs" / "platform.schema.json"


def test_the_reference_has_the_tables_of_the_types() -> None:
    """If this fails: `python -m fivenines.platform.schema docs/platform-yaml.md`."""
    text = (ROOT / "docs" / "platform-yaml.md").read_text(encoding="utf-8")
    assert reference() in text


def test_the_reference_names_every_rule_of_the_placement_check() -> None:
    text = (ROOT / "docs" / "platform-yaml.md").read_text(encoding="utf-8")
    sources = [(ROOT / "src/fivenines/platform" / f"{name}.py").read_text("utf-8") for name in RULE_FILES]
    rules = set(re.findall(r"(?:refused|warned)\(\s*\"([a-z-]+)\"", "\n".join(sources)))
    assert len(rules) > 10
    assert {rule for rule in rules if f"`{rule}`" not in text} == set()


RULE_FILES = ("placement", "placement_names")
