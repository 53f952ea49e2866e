from pathlib import Path

import pytest

from fivenines.drill.simulator import rates
from fivenines.drill.simulator.rates import Lasts, RatesError


def test_every_row_names_its_sources_and_lies_in_its_own_range() -> None:
    table = rates.built_in()
    for kind, row in table.faults.items():
        assert row.sources, kind
        assert row.says, kind
        assert row.range is not None, kind
        assert row.range[0] <= row.per_year <= row.range[1], kind


def test_every_source_is_used() -> None:
    table = rates.built_in()
    used = {source for row in table.faults.values() for source in row.sources} | set(table.people.sources)
    assert used == set(table.sources)


def test_a_users_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("faults:\n  node_crash: {per_year: 1}\npeople:\n  notice: {mean_s: 30}\n")
    mine, ours = rates.read(file), rates.built_in()
    assert mine.faults["node_crash"].per_year == 1
    assert mine.people.notice == Lasts(mean_s=30)
    assert mine.faults["node_hang"] == ours.faults["node_hang"]
    assert mine.people.act == ours.people.act


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("faults: {nod: {per_year: 1}}", "faults.nod: there is no such field here"),
        ("faults: {node_crash: {per_year: -1}}", "faults.node_crash.per_year: Expected `float` >= 0"),
        ("faults: {node_crash: {per_year: often}}", "faults.node_crash.per_year: Expected `float`, got `str`"),
        ("faults: {node_crash: {per_yaer: 1}}", "faults.node_crash: Object contains unknown field `per_yaer`"),
        ("faults: {node_crash: 3}", "faults.node_crash: must be a mapping"),
        ("faults: {node_slow: {lasts: {spread: 2}}}", "faults.node_slow.lasts: give median_s (and spread), or mean_s"),
        ("faults: {bad_deploy: {fails: [0, 1]}}", "faults.bad_deploy.fails: must be two shares"),
        ("faults: {bad_deploy: {range: [2, 1]}}", "faults.bad_deploy.range: 2 is more than 1"),
        ("faults: {bad_deploy: {sources: [me]}}", "faults.bad_deploy.sources: 'me' is not among `sources`"),
        ("people: {notice: {median_s: x}}", "people.notice.median_s: Expected `float | null`, got `str`"),
        ("assumed: {canary: 1}", "assumed.canary: there is no such field here"),
        ("[1, 2]", "must be a mapping"),
        ("a: [", "is no YAML"),
    ],
)
def test_what_is_wrong_is_told_with_file_field_and_reason(tmp_path: Path, text: str, told: str) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(RatesError) as caught:
        rates.read(file)
    assert str(caught.value).startswith(f"{file}: {told}")


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(RatesError, match="No such file"):
        rates.read(tmp_path / "none.yaml")


def test_lengths_have_the_median_and_the_mean_that_they_say() -> None:
    spread = Lasts(median_s=100, spread=2)
    assert spread.at(0.1, 0.0) == 100
    assert spread.at(0.1, 1.0) == pytest.approx(200)
    assert Lasts(mean_s=60).mean == 60
    assert Lasts(median_s=60).mean == 60


def test_the_page_has_the_table_as_it_is() -> None:
    page = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text()
    table = rates.built_in()
    for kind, row in table.faults.items():
        assert row.range is not None
        low, high = row.range
        assert f"| {row.what} (`{kind}`) | {row.per} | {row.per_year:g} | {low:g}-{high:g} |" in page, kind
    for name, source in table.sources.items():
        assert f"- **{name}**: {source}" in page
