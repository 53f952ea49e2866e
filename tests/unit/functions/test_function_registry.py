"""How functions are registered, and that it costs little."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

import fivenines
from fivenines.functions import registry


@pytest.fixture(autouse=True)
def _nothing_registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(registry, "_registered", {})
    return iter([None])


def test_a_function_is_known_by_its_name_or_by_the_one_it_is_given() -> None:
    @fivenines.on("transaction.posted", where={"account": "customers:"})
    def first(event: object, context: object) -> str:
        return "as it was"

    @fivenines.on("transaction.posted", name="another")
    def second(event: object, context: object) -> None: ...

    assert first(None, None) == "as it was"
    assert set(registry.functions()) == {"first", "another"}
    assert registry.functions()["first"].where == {"account": "customers:"}


def test_two_functions_of_one_name_are_refused() -> None:
    fivenines.on("transaction.posted", name="one")(print)
    with pytest.raises(ValueError, match="'one' already"):
        fivenines.on("transaction.posted", name="one")(repr)


def test_a_condition_that_is_none_is_refused_where_it_is_written() -> None:
    with pytest.raises(ValueError, match="no condition asset"):
        fivenines.on("transaction.posted", where={"asset": "EUR/2"})
    with pytest.raises(ValueError, match="needs a type"):
        fivenines.on()


def test_a_worker_imports_little() -> None:
    script = "import fivenines.functions.worker, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert "fivenines.api" in loaded
    assert {"asyncio", "httpx", "sqlalchemy", "starlette", "structlog", "fivenines.node"}.isdisjoint(loaded)
