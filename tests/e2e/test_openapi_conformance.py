"""schemathesis against a real server: whatever is asked, the answer is one that the OpenAPI document describes.

Both what the document allows and what it does not is asked, from a fixed seed.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from schemathesis.specs.openapi.schemas import OpenApiSchema

from tests.e2e.serving import Api, run_server

EXAMPLES = 50
# Of the checks one is left out: what the document allows may be refused all the same, by what no schema can say. A
# settlement names its hold, and a change of limits gives both.
OPERATIONS = [
    ("POST", "/v1/assets"),
    ("POST", "/v1/accounts"),
    ("GET", "/v1/accounts"),
    ("GET", "/v1/accounts/{id}"),
    ("PATCH", "/v1/accounts/{id}"),
    ("GET", "/v1/accounts/{id}/history"),
    ("POST", "/v1/transactions"),
    ("GET", "/v1/transactions/{id}"),
    ("GET", "/v1/events"),
    ("GET", "/v1/platform"),
    ("POST", "/v1/platform/rules"),
    ("GET", "/v1/platform/snapshot"),
    ("GET", "/live"),
    ("GET", "/ready"),
    ("GET", "/metrics"),
]
TAKE_NOTHING = {"/v1/platform/snapshot", "/live", "/ready", "/metrics"}
CASES = [
    pytest.param(method, path, mode, id=f"{method}-{path}-{mode.value}")
    for method, path in OPERATIONS
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if not (path in TAKE_NOTHING and mode is GenerationMode.NEGATIVE)
]


@schemathesis.serializer("application/msgpack")
def to_msgpack(_context: Any, value: Any) -> bytes:
    """Write what was drawn as msgpack; what only JSON can say, JSON said already."""
    try:
        return msgspec.msgpack.encode(value)
    except (OverflowError, TypeError, ValueError):
        return json.dumps(value).encode()


@schemathesis.deserializer("application/msgpack")
def from_msgpack(_context: Any, response: Any) -> Any:
    """Read an answer in msgpack."""
    return msgspec.msgpack.decode(response.content)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Api]:
    """A server of its own: what schemathesis does to it is nobody else's affair."""
    with run_server(tmp_path_factory.mktemp("asked") / "data") as api:
        source, destination = api.account(prefix="customers"), api.account(prefix="customers")
        api.post("/v1/accounts", {"id": "customers:alice", "asset": "EUR/2", "min_balance": None})
        api.move(source, destination, 5)
        yield api
        assert api.server.process.poll() is None
        assert "Traceback" not in api.server.log


@pytest.fixture(scope="module")
def schema(asked: Api) -> OpenApiSchema:
    """The document, as the server serves it."""
    loaded = schemathesis.openapi.from_dict(asked.get("/openapi.json").json(), config=SchemathesisConfig())
    assert isinstance(loaded, OpenApiSchema)
    return loaded


def test_the_document_is_valid_and_lists_what_is_served(schema: OpenApiSchema) -> None:
    schema.validate()
    found = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    listed = {(operation.method.upper(), operation.path) for operation in found}
    assert listed == set(OPERATIONS)


def wait_for_nothing(case: "Case[Any]") -> None:
    """Ask for no position that is far away and for no event to come: that takes seconds, and ends in nothing."""
    query = case.query or {}
    for name in ("at_least", "wait_s", "after"):
        if str(query.get(name, "")).isdigit():
            query[name] = 0


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_every_answer_is_one_of_the_document(
    asked: Api, schema: OpenApiSchema, method: str, path: str, mode: GenerationMode
) -> None:
    operation = schema[path][method]

    @seed(1)
    @settings(
        max_examples=EXAMPLES,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def ask(case: "Case[Any]") -> None:
        wait_for_nothing(case)
        case.call_and_validate(base_url=asked.server.url, timeout=60, excluded_checks=[positive_data_acceptance])

    ask()
