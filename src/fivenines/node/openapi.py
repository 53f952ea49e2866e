"""The OpenAPI document, made from the types of `fivenines.api` and a table of what each route takes and answers."""

from typing import Any

import msgspec

import fivenines
from fivenines import api
from fivenines.node.settings import Limits

__all__ = ["document"]

_REF = "#/components/schemas/{name}"
_MSGPACK = "application/msgpack"
_JSON = "application/json"

_TYPES = (
    api.Accepted,
    api.Account,
    api.AccountChange,
    api.Accounts,
    api.Asset,
    api.Events,
    api.History,
    api.ItemResult,
    api.NewAccount,
    api.NewTransaction,
    api.Platform,
    api.Problem,
    api.RulesInForce,
    api.RulesWanted,
    api.Transaction,
)

_PROBLEMS = {
    "400": "The body cannot be read.",
    "404": "There is no such thing.",
    "405": "This method is not possible here.",
    "409": "The ledger refused it; `outcome` names why. Asking again with the same id gives the same answer. Without "
    "an `outcome`, newer rules are needed for it, or nodes that can run them: nothing was done.",
    "410": "What was asked for has been trimmed away.",
    "413": "The body, or the array in it, is too large. Nothing was done: send it in parts.",
    "415": "The body is of a type that is not taken.",
    "422": "The request is not valid; `field` and `detail` say what is wrong. Nothing was done.",
    "503": "Nothing was done, or it says that it may have been: try again after a while with the same id.",
}

_POSITION_HEADER = {
    "Ledger-Position": {
        "description": "The position of the journal that this answer shows.",
        "schema": {"type": "integer", "minimum": 0},
    }
}


def document(limits: Limits) -> dict[str, Any]:
    """Return the document as plain data."""
    _, components = msgspec.json.schema_components(_TYPES, ref_template=_REF)
    components = msgspec.json.decode(msgspec.json.encode(components).replace(rb"\\Z", b"$"))  # as in _ecma
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "fivenines",
            "version": fivenines.__version__,
            "description": _DESCRIPTION.format(
                body=limits.body_bytes_max, items=limits.array_items_max, postings=limits.array_postings_max
            ),
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": _paths(limits),
        "components": {"schemas": components},
    }


_DESCRIPTION = """A double-entry ledger. Amounts are integers in the smallest unit of their asset.

Make the id of a transaction yourself, a UUIDv7: then to send it again, anywhere, is always safe. Send arrays for speed:
each item gets its own outcome. A body has at most {body} bytes, an array {items} items and {postings} postings.

In msgpack an array of transactions may also consist of rows, `[id (16 bytes), source, destination, amount]`.
"""


def _paths(limits: Limits) -> dict[str, Any]:
    read = ["405", "422", "503"]
    write = ["400", "405", "413", "415", "422", "503"]
    limit = _query("limit", "How many at most.", 1, 1_000)
    return {
        "/v1/assets": {
            "post": _write("Register an asset", "createAsset", _ref("Asset"), _ref("ItemResult"), [*write, "409"])
        },
        "/v1/accounts": {
            "post": _write(
                "Open an account, or several",
                "openAccounts",
                _one_or_many("NewAccount", limits),
                {"oneOf": [_ref("ItemResult"), _many("ItemResult")]},
                [*write, "409"],
            ),
            "get": _read(
                "List accounts by id",
                "listAccounts",
                _ref("Accounts"),
                read,
                [
                    _query_text("prefix", "Only ids that begin so.", "customers:"),
                    _query_text(
                        "ids", "These, separated by commas, as far as they exist.", "bank:cash,customers:alice"
                    ),
                    _query_text("after", "Only ids after this one; from `next` of the page before.", "customers:alice"),
                    limit,
                ],
            ),
        },
        "/v1/accounts/{id}": {
            "get": _read("Read an account", "readAccount", _ref("Account"), [*read, "404"], [_ACCOUNT_ID]),
            "patch": _write(
                "Change an account: its status, its limits, its metadata",
                "changeAccount",
                _ref("AccountChange"),
                _ref("ItemResult"),
                [*write, "409"],
                [_ACCOUNT_ID],
            ),
        },
        "/v1/accounts/{id}/history": {
            "get": _read(
                "The transactions of an account, the newest first",
                "readHistory",
                _ref("History"),
                [*read, "404"],
                [_ACCOUNT_ID, _query("before", "Only positions before this one.", 1, 2**63), limit],
            )
        },
        "/v1/transactions": {
            "post": _write(
                "Decide a transaction, or an array of them with an outcome for each",
                "submitTransactions",
                _one_or_many("NewTransaction", limits),
                {"oneOf": [_ref("ItemResult"), _many("ItemResult")]},
                [*write, "409"],
            )
        },
        "/v1/transactions/{id}": {
            "get": _read(
                "Read a transaction that was decided",
                "readTransaction",
                _ref("Transaction"),
                [*read, "404"],
                [_TRANSACTION_ID],
            )
        },
        "/v1/events": {
            "get": _read(
                "What was decided after a position: a page, a long poll (`wait_s`), or a stream (text/event-stream)",
                "readEvents",
                _ref("Events"),
                [*read, "410"],
                [
                    _query("after", "The position that is known already; left out: from now on.", 0, 2**63),
                    limit,
                    _query(
                        "wait_s",
                        "How long to wait for an event, in seconds; it is answered after "
                        f"{limits.long_poll_wait_ms // 1000} even if more is asked for.",
                        0,
                        60,
                    ),
                    _query_texts("type", "Only events of this type, `transaction.posted`; repeat for more.", _TYPE),
                    _ACCOUNT_PREFIX,
                ],
            )
        },
        "/v1/platform": {"get": _read("What serves here", "readPlatform", _ref("Platform"), read)},
        "/v1/platform/rules": {
            "post": {
                "summary": "Put newer rules in force, when every node can run them",
                "operationId": "activateRules",
                "requestBody": {"required": True, "content": {_JSON: {"schema": _ref("RulesWanted")}}},
                "responses": {
                    "200": {
                        "description": "They are in force.",
                        "headers": _POSITION_HEADER,
                        "content": {_JSON: {"schema": _ref("RulesInForce")}},
                    },
                    **_problems(["400", "405", "409", "413", "415", "422", "503"]),
                },
            }
        },
        "/v1/platform/snapshot": {
            "get": _page(
                "The newest snapshot, for another node", "readSnapshot", "application/octet-stream", [*read, "404"]
            )
        },
        "/live": {"get": _page("Whether the process lives", "live", _JSON, ["405"])},
        "/ready": {"get": _page("Whether this node should get writes", "ready", _JSON, ["405", "503"])},
        "/metrics": {"get": _page("Metrics for Prometheus", "metrics", "text/plain", ["405"])},
    }


def _ecma(pattern: str) -> str:
    """Write a pattern as JavaScript, and so JSON Schema, does."""
    return pattern.replace(r"\Z", "$")


_ACCOUNT_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": _ecma(api.ACCOUNT_ID_PATTERN)},
    "example": "customers:alice",
}
_TRANSACTION_ID = {
    "name": "id",
    "in": "path",
    "required": True,
    "schema": {
        "type": "string",
        "pattern": _ecma(api.TRANSACTION_ID_PATTERN),
    },
}
_CONSISTENCY = [
    {
        "name": "at_least",
        "in": "query",
        "description": "Wait until this position is applied, to read a write that was acknowledged anywhere.",
        "schema": {"type": "integer", "minimum": 0, "maximum": 2**63},
    },
    {
        "name": "consistency",
        "in": "query",
        "description": "`linearizable` goes once through the journal before it reads.",
        "schema": {"type": "string", "enum": ["linearizable"]},
    },
]


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": _REF.format(name=name)}


def _many(name: str) -> dict[str, Any]:
    return {"type": "array", "items": _ref(name)}


def _one_or_many(name: str, limits: Limits) -> dict[str, Any]:
    return {"oneOf": [_ref(name), {**_many(name), "minItems": 1, "maxItems": limits.array_items_max}]}


def _query(name: str, text: str, least: int, most: int) -> dict[str, Any]:
    schema = {"type": "integer", "minimum": least, "maximum": most}
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _query_text(name: str, text: str, example: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": {"type": "string"}, "example": example}


def _query_texts(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    several = {"type": "array", "items": schema, "maxItems": 100}
    return {"name": name, "in": "query", "description": text, "schema": several, "style": "form", "explode": True}


_TYPE = {"type": "string", "pattern": r"^(fivenines\.)?transaction\.(posted|held|settled|released|refused|\*)$"}
# Not an array, though it may be repeated: what is no array reads as the beginning of an id all the same.
_ACCOUNT_PREFIX = {
    "name": "account",
    "in": "query",
    "description": "Only events of accounts that begin so; may be given several times.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 128},
    "example": "customers:",
}


def _problems(statuses: list[str]) -> dict[str, Any]:
    content = {"application/problem+json": {"schema": _ref("Problem")}}
    return {
        status: {"description": _PROBLEMS[status], "headers": _POSITION_HEADER, "content": content}
        for status in statuses
    }


def _write(
    summary: str,
    name: str,
    body: dict[str, Any],
    answer: dict[str, Any],
    statuses: list[str],
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": name,
        "parameters": [
            *(parameters or []),
            {
                "name": "Prefer",
                "in": "header",
                "description": "`respond-async`: answer 202 as soon as it is durable. Others are ignored.",
                "schema": {"type": "string"},
                "example": "respond-async",
            },
        ],
        "requestBody": {"required": True, "content": {_JSON: {"schema": body}, _MSGPACK: {"schema": body}}},
        "responses": {
            "200": {
                "description": "It was decided; each `outcome` says how.",
                "headers": _POSITION_HEADER,
                "content": {_JSON: {"schema": answer}, _MSGPACK: {"schema": answer}},
            },
            "202": {
                "description": "It is durable, and will be decided as everywhere.",
                "headers": _POSITION_HEADER,
                "content": {_JSON: {"schema": _ref("Accepted")}, _MSGPACK: {"schema": _ref("Accepted")}},
            },
            **_problems(statuses),
        },
    }


def _read(
    summary: str,
    name: str,
    answer: dict[str, Any],
    statuses: list[str],
    parameters: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    return {
        "summary": summary,
        "operationId": name,
        "parameters": [*(parameters or []), *_CONSISTENCY],
        "responses": {
            "200": {
                "description": "As it stands at `Ledger-Position`.",
                "headers": _POSITION_HEADER,
                "content": {_JSON: {"schema": answer}},
            },
            **_problems(statuses),
        },
    }


def _page(summary: str, name: str, media_type: str, statuses: list[str]) -> dict[str, Any]:
    schema = {"type": "object"} if media_type == _JSON else {"type": "string"}
    responses = {"200": {"description": "Yes.", "content": {media_type: {"schema": schema}}}, **_problems(statuses)}
    return {"summary": summary, "operationId": name, "responses": responses}
