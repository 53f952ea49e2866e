"""Ask a ledger what it holds, over plain HTTP and without the client library, as any stranger could.

The totals of every account, every decision it tells of in its event feed, and what it answers when everything that was
ever acknowledged is sent once more.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Self

import httpx
import msgspec

from fivenines.drill.disk import Totals
from fivenines.drill.record import Answer, Try, id_bytes

__all__ = ["Testimony", "Witness", "hear"]

_PAGE = 1_000
_RESEND_ITEMS = 5_000
_MSGPACK = "application/msgpack"


class _Account(msgspec.Struct):
    id: str
    asset: str
    balance: int
    debits: int
    credits: int


class _Accounts(msgspec.Struct):
    accounts: list[_Account]
    next: str | None


class _Platform(msgspec.Struct):
    position: int
    outcomes_digest: str


class _Decision(msgspec.Struct):
    id: str
    outcome: str
    position: int


class _Event(msgspec.Struct):
    data: _Decision


class _Events(msgspec.Struct):
    events: list[_Event]
    position: int


class _Result(msgspec.Struct):
    id: str
    outcome: str
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Testimony:
    """What a ledger said; the fields are those of `checker.books.Evidence`."""

    accounts: dict[str, Totals]
    wrong_in_themselves: list[str]
    decisions: dict[bytes, list[Answer]]
    sent_again: dict[bytes, Answer]
    accounts_after: dict[str, Totals]
    nodes: dict[str, tuple[int, str, dict[str, Totals]]]


def hear(urls: Sequence[str], until: int, acknowledged: Iterable[Try]) -> Testimony:
    """Ask a running ledger everything, then send everything again, then ask all its nodes for the accounts once more.

    Args:
        urls: where its nodes serve; the first one is asked for most.
        until: the position up to which its decisions are of interest.
        acknowledged: what is to be sent again.

    Raises:
        httpx.HTTPError: it did not answer, or with an error: nothing is retried.
    """
    with Witness(urls[0]) as witness:
        accounts, wrong = witness.accounts()
        decisions = witness.decisions(until)
        sent_again = witness.send_again(acknowledged)
        accounts_after, _ = witness.accounts()
        end, _ = witness.platform(0)
    nodes = {}
    for url in urls:
        with Witness(url) as witness:
            position, outcomes = witness.platform(end)
            nodes[url.partition("//")[2]] = (position, outcomes, witness.accounts()[0])
    return Testimony(
        accounts=accounts,
        wrong_in_themselves=wrong,
        decisions=decisions,
        sent_again=sent_again,
        accounts_after=accounts_after,
        nodes=nodes,
    )


class Witness:
    """One look at a running ledger. A context manager.

    Every method raises httpx.HTTPError when the ledger does not answer, or answers with an error: nothing is retried.
    """

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=60.0, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def accounts(self) -> tuple[dict[str, Totals], list[str]]:
        """Return the totals of every account, and the accounts that are wrong in themselves.

        An account is wrong in itself when its balance is not its credits - debits, or when it comes twice.
        """
        found: dict[str, Totals] = {}
        wrong: list[str] = []
        after: str | None = None
        while True:
            query: dict[str, Any] = {"limit": _PAGE} | ({"after": after} if after else {})
            page = self._get("/v1/accounts", query, _Accounts)
            for each in page.accounts:
                if each.id in found or each.balance != each.credits - each.debits:
                    wrong.append(each.id)
                found[each.id] = Totals(each.asset, each.debits, each.credits)
            after = page.next
            if after is None:
                return found, wrong

    def platform(self, at_least: int) -> tuple[int, str]:
        """Return the position, once it is `at_least`, and the chain over all outcomes up to there."""
        said = self._get("/v1/platform", {"at_least": at_least}, _Platform)
        return said.position, said.outcomes_digest

    def decisions(self, until: int) -> dict[bytes, list[Answer]]:
        """Return what the event feed says was decided up to a position, by id: one answer each, if all is well."""
        found: dict[bytes, list[Answer]] = defaultdict(list)
        after = 0
        while after < until:
            page = self._get("/v1/events", {"after": after, "limit": _PAGE}, _Events)
            for event in page.events:
                found[id_bytes(event.data.id)].append(Answer(event.data.outcome, event.data.position))
            if page.position <= after:
                break
            after = page.position
        return found

    def send_again(self, tries: Iterable[Try]) -> dict[bytes, Answer]:
        """Send what was acknowledged once more, in large arrays, and return the answers."""
        found: dict[bytes, Answer] = {}
        items = (item for each in tries for item in each.items())
        for part in _parts(items):
            response = self._http.post(
                "/v1/transactions",
                content=msgspec.msgpack.encode(part),
                headers={"Content-Type": _MSGPACK, "Accept": _MSGPACK},
            ).raise_for_status()
            for result in msgspec.msgpack.decode(response.content, type=list[_Result]):
                found[id_bytes(result.id)] = Answer(result.outcome, result.position)
        return found

    def _get(self, path: str, query: dict[str, Any], type: Any) -> Any:
        response = self._http.get(path, params=query).raise_for_status()
        return msgspec.json.decode(response.content, type=type, strict=False)


def _parts(items: Iterator[Any]) -> Iterator[list[Any]]:
    while part := list(islice(items, _RESEND_ITEMS)):
        yield part
