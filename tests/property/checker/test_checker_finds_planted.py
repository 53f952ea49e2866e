"""The checker finds each kind of lie that is planted, calls it by its name, and names the guarantee that it breaks."""

from pathlib import Path
from random import Random

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from fivenines.drill.checker import judge
from tests.property.checker.honest import World
from tests.property.checker.planted import PLANTED

STEPS = 150
_TELLS_OF_REQUESTS = {"lost", "doubled", "reordered", "done though refused", "wrong read", "stale read", "sum changed"}


@pytest.mark.parametrize("name", sorted(PLANTED))
@settings(max_examples=8)
@given(seed=st.integers(0, 2**32))
def test_it_is_found(name: str, seed: int) -> None:
    kind, guarantee, lie = PLANTED[name]
    evidence = lie(World(seed, STEPS), Random(seed))
    assume(evidence is not None)
    assert evidence is not None
    judgement = judge(evidence)
    found = [each for each in judgement.findings if each.kind == kind]
    assert found, str(judgement)
    assert guarantee in {each.guarantee for each in found}
    assert judgement.counts[kind] >= len(found)
    assert not judgement.is_good
    (verdict,) = [each for each in judgement.guarantees if each.guarantee == guarantee]
    assert not verdict.is_kept
    assert verdict.why
    if kind in _TELLS_OF_REQUESTS:
        assert any(" s  client " in line for each in found for line in each.history)


def test_every_kind_of_finding_is_planted_by_some_lie() -> None:
    from fivenines.drill.checker.rules import answers, books, histories, holds, order, reads, searching

    kinds = {
        value
        for module in (answers, books, histories, holds, order, reads, searching)
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, str) and name != "READ"
    }
    assert {kind for kind, _, _ in PLANTED.values()} == kinds - {"posted", "insufficient_funds"}


def test_the_documentation_names_every_kind_and_every_lie() -> None:
    page = (Path(__file__).parents[3] / "docs" / "checker.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| ")]
    for name, (kind, guarantee, _) in PLANTED.items():
        (row,) = [each for each in rows if each.startswith(f"| {kind} |")]
        assert f"`{name}`" in row
        assert guarantee in row
