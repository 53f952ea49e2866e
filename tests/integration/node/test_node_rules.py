"""How newer rules come in force on a node that can run both: what it writes and refuses before, and what after.

The older rules are planted. They still write schema 1, as if there were nodes of a release that cannot settle in parts.
"""

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest

from fivenines.ids import as_text, new_ids16
from fivenines.journal import FileJournal, JournalError, MaybeDoneError, NotDoneError
from fivenines.ledger import RULES, SCHEMA, Hold, OpenAccount, Outcome, Posting, RegisterAsset, Rules, Settle, digest
from fivenines.ledger.codec import NEEDS, Need
from fivenines.ledger.downcasters import DOWNCASTERS
from fivenines.node.activation import RulesNotRunnableError, activate
from fivenines.node.gateway import Gateway
from fivenines.node.metrics import Metrics
from fivenines.node.node import Node
from fivenines.node.pages import pages
from tests.integration.node.nodes import opened, posts, replay

OLDER = Rules(version=1, schema=1)
PART = (Posting("bank", "bob", 20),)


def forget_whether_final(batch: list[Any]) -> list[Any]:
    """2 -> 1."""
    return [*batch[:3], [[*c[:4], *c[5:]] if c[0] == 3 else c for c in batch[3]]]


@pytest.fixture(autouse=True)
def _two_rules(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RULES, 1, OLDER)
    monkeypatch.setitem(RULES, 2, Rules(version=2, schema=SCHEMA))
    monkeypatch.setitem(DOWNCASTERS, SCHEMA, forget_whether_final)
    monkeypatch.setitem(NEEDS, Settle, lambda settle: None if settle.final else Need(2, "$.final"))


def client(node: Node) -> httpx.AsyncClient:
    metrics = Metrics(node)
    gateway = Gateway(node, pages(node, metrics), metrics)
    return httpx.AsyncClient(transport=httpx.ASGITransport(gateway), base_url="http://node")


async def begin(node: Node) -> bytes:
    """Put the older rules in force, fill some books, and return the id of a hold."""
    node.state.rules = OLDER
    await node.writer.submit([RegisterAsset("EUR/2"), *(OpenAccount(name, "EUR/2", None) for name in ("bank", "bob"))])
    [hold] = new_ids16(1)
    await node.writer.submit([Hold(hold, (Posting("bank", "bob", 50),))])
    return hold


def schemas(directory: Path) -> list[int]:
    """Return the schemas of all frames, in order."""

    async def read() -> list[int]:
        journal = FileJournal.open(directory)
        try:
            return [frame.payload[0] for frame in journal.read(1)]
        finally:
            await journal.close()

    return asyncio.run(read())


def test_what_the_rules_in_force_cannot_say_is_refused_alone_until_newer_ones_are(tmp_path: Path) -> None:
    async def main() -> bytes:
        async with opened(tmp_path) as node, client(node) as http:
            hold = await begin(node)
            plain = {"postings": [{"source": "bank", "destination": "bob", "amount": 1}]}
            settlement: dict[str, Any] = {
                **plain,
                "kind": "settle",
                "id": as_text(new_ids16(1)[0]),
                "hold": as_text(hold),
            }
            settlement["final"] = False
            position = node.replica.position

            # Beside others in one frame, and as one of several in an array.
            alone, other, array = await asyncio.gather(
                http.post("/v1/transactions", json=settlement),
                http.post("/v1/transactions", json=plain),
                http.post("/v1/transactions", json=[plain, settlement]),
            )
            assert other.status_code == 200
            for refused, field in ((alone, "$.final"), (array, "$[1].final")):
                assert (refused.status_code, refused.json()["type"]) == (409, "/problems/rules_not_in_force")
                assert refused.json()["detail"] == "it needs rules 2, and rules 1 are in force"
                assert refused.json()["field"] == field
            assert node.replica.position == position + 1

            done = await http.post("/v1/platform/rules", json={"version": 2})
            assert (done.status_code, done.json()) == (200, {"version": 2, "position": position + 2})
            assert (await http.post("/v1/transactions", json=settlement)).json()["outcome"] == "settled"
            return digest(node.state)

    expected = asyncio.run(main())
    assert schemas(tmp_path) == [1, 1, 1, 1, SCHEMA]
    assert digest(replay(tmp_path)) == expected


def test_rules_come_in_force_once_and_never_fall(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as node:
            await begin(node)
            assert await activate(node, 1) == node.replica.position
            with pytest.raises(RulesNotRunnableError, match="rules 3 cannot be run by this node"):
                await activate(node, 3)
            first, second = await asyncio.gather(activate(node, 2), activate(node, 2))
            assert {first, second} <= {node.replica.position}
            assert node.state.rules is RULES[2]
            with pytest.raises(RulesNotRunnableError, match="no way back to rules 1"):
                await activate(node, 1)
            await posts(node)

    asyncio.run(main())
    assert schemas(tmp_path)[-1] == SCHEMA


def test_a_frame_that_would_say_something_else_when_lowered_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if it had been forgotten to say what a command needs: its writer would hold another state than the rest."""
    monkeypatch.delitem(NEEDS, Settle)

    async def main() -> None:
        async with opened(tmp_path) as node:
            hold = await begin(node)
            position = node.replica.position
            with pytest.raises(NotDoneError, match="schema 1, which the rules in force name, cannot say"):
                await node.writer.submit([Settle(new_ids16(1)[0], hold, PART, final=False)])
            assert node.replica.position == position
            receipt = await node.writer.submit([Settle(new_ids16(1)[0], hold, PART)])
            assert receipt.outcomes == [Outcome.settled]

    asyncio.run(main())


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b'{"version": 9}', "application/json", 409),
        (b'{"version": 0}', "application/json", 422),
        (b'{"version": 2, "when": "now"}', "application/json", 422),
        (b"{", "application/json", 400),
        (b'{"version": 2}', "text/plain", 415),
        (b" " * 2_000 + b'{"version": 2}', "application/json", 413),
    ],
)
def test_a_request_for_rules_that_is_wrong_changes_nothing(tmp_path: Path, body: bytes, kind: str, status: int) -> None:
    async def main() -> None:
        async with opened(tmp_path) as node, client(node) as http:
            await begin(node)
            position = node.replica.position
            answer = await http.post("/v1/platform/rules", content=body, headers={"content-type": kind})
            assert (answer.status_code, answer.json()["type"].startswith("/problems/")) == (status, True)
            assert (node.replica.position, node.state.rules) == (position, OLDER)

    asyncio.run(main())


@pytest.mark.parametrize(
    ("error", "name", "detail"),
    [
        (NotDoneError("no room"), "journal_unavailable", r"nothing was done \(.*no room\); ask again"),
        (MaybeDoneError("no answer"), "maybe_done", r"it may have been done \(.*no answer\); ask again"),
    ],
)
def test_whoever_activates_is_told_when_the_journal_does_not_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: JournalError, name: str, detail: str
) -> None:
    async def refuse(*_: object) -> int:
        raise error

    async def main() -> None:
        async with opened(tmp_path) as node, client(node) as http:
            await begin(node)
            with monkeypatch.context() as patched:
                patched.setattr(FileJournal, "append", refuse)
                answer = await http.post("/v1/platform/rules", json={"version": 2})
            assert (answer.status_code, answer.json()["type"]) == (503, f"/problems/{name}")
            assert re.fullmatch(detail, answer.json()["detail"])
            assert node.state.rules is OLDER

    asyncio.run(main())
