"""Errors as answers: RFC 9457 problem details, one kind for each thing that can be wrong."""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from fivenines.api import Problem
from fivenines.ledger import Outcome

__all__ = ["REFUSALS", "Answer", "problem", "refusal", "response_of"]

PROBLEM_JSON = b"application/problem+json"

REFUSALS = {
    Outcome.id_reused: "This id was decided before, for other content.",
    Outcome.id_expired: "This id is older than the retention window: whether it was decided is no longer known.",
    Outcome.id_in_future: "The time in this id is too far in the future: is the clock of the client right?",
    Outcome.asset_unknown: "No such asset is registered: register it with POST /v1/assets.",
    Outcome.asset_exists: "This asset code is registered with another scale.",
    Outcome.account_unknown: "An account that is named does not exist: open it with POST /v1/accounts.",
    Outcome.account_exists: "This account exists with other content.",
    Outcome.account_frozen: "An account that is named is frozen.",
    Outcome.account_closed: "An account that is named is closed.",
    Outcome.account_not_empty: "An account with a balance, or with money held, cannot be closed.",
    Outcome.same_account: "A posting has the same account as source and destination.",
    Outcome.asset_mismatch: "A posting's source and destination have different assets.",
    Outcome.insufficient_funds: "The source's available balance would fall below its min_balance.",
    Outcome.balance_limit_exceeded: "The destination's balance would rise above its max_balance.",
    Outcome.total_overflow: "A total of an account would pass 2^127 - 1.",
    Outcome.hold_unknown: "No such hold is known.",
    Outcome.hold_already_settled: "The hold was settled to the end.",
    Outcome.hold_already_released: "The hold was released.",
    Outcome.hold_expired: "The hold's timeout has passed.",
    Outcome.hold_exceeded: "More is asked for than is held, or a posting that the hold does not have.",
    Outcome.rules_not_newer: "These rules are not newer than those in force.",
    Outcome.limits_conflict: "The limits exclude the balance that the account has, or each other.",
    Outcome.malformed: "The command is out of the ledger's bounds.",
}
"""The title of each refusal by the ledger."""

assert set(REFUSALS) == {outcome for outcome in Outcome if outcome.is_refusal}


class Answer(msgspec.Struct, frozen=True):
    """An answer, before it is sent."""

    status: int
    body: bytes
    content_type: bytes = b"application/json"
    headers: tuple[tuple[bytes, bytes], ...] = ()


def problem(
    status: int,
    name: str,
    title: str,
    *,
    detail: str | None = None,
    field: str | None = None,
    retry_after_s: int | None = None,
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> Answer:
    """Make the answer for a problem of the kind `name`."""
    body = msgspec.json.encode(Problem(f"/problems/{name}", title, status, detail=detail, field=field))
    if retry_after_s is not None:
        headers = (*headers, (b"retry-after", b"%d" % retry_after_s))
    return Answer(status, body, PROBLEM_JSON, headers)


def response_of(answer: Answer, headers: Mapping[str, str] | None = None) -> Response:
    """Return an answer as Starlette sends it, with further headers."""
    told = {name.decode(): value.decode() for name, value in answer.headers}
    return Response(
        answer.body, answer.status, media_type=answer.content_type.decode(), headers=told | dict(headers or {})
    )


def refusal(outcome: Outcome, *, id: str, position: int | None) -> Answer:
    """Make the answer for a command that the ledger refused."""
    body = Problem(f"/problems/{outcome.name}", REFUSALS[outcome], 409, outcome=outcome.name, id=id, position=position)
    return Answer(409, msgspec.json.encode(body), PROBLEM_JSON)
