"""A load of our own making, for tests that break a server under it: plain sockets, and a memory of what was answered.

It shares nothing with `fivenines.client`, and keeps the books in the most obvious way: a list of what was asked and the
answer to each. What has no answer may or may not have happened; to ask again, with the same id, settles which.
"""

import http.client
import json
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fivenines.ids import new_id

__all__ = ["Item", "Load", "RefusedError"]

HttpError = (OSError, http.client.HTTPException)


class RefusedError(Exception):
    """The server takes no writes now: nothing was done."""


@dataclass(slots=True, eq=False)
class Item:
    """One transaction that was asked for, and the answer to it."""

    id: str
    kind: str
    source: str
    destination: str
    amount: int
    hold: "Item | None" = None
    outcome: str | None = None
    position: int | None = None

    @property
    def body(self) -> dict[str, Any]:
        """What the request says."""
        posting = {"source": self.source, "destination": self.destination, "amount": self.amount}
        of_hold = {"hold": self.hold.id} if self.hold else {}
        return {"id": self.id, "kind": self.kind, "postings": [posting], **of_hold}

    @property
    def row(self) -> list[Any]:
        """The same as a row."""
        return [bytes.fromhex(self.id.replace("-", "")), self.source, self.destination, self.amount]


@dataclass(slots=True)
class Load:
    """Threads that send transactions between accounts, until they are told to stop or the server is gone."""

    seed: int
    accounts_count: int = 20
    threads: int = 6
    items: list[Item] = field(default_factory=list)
    """All that was ever asked, in the order of asking within a thread."""
    errors: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    """What threads were told that ended because the server took no writes."""
    _kinds: tuple[str, ...] = ("post", "post", "post", "array", "rows", "hold")
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _round: int = 0

    @property
    def accounts(self) -> list[str]:
        """The accounts; the first is the bank's, which may overdraw. The others soon have too little, now and then."""
        return [f"load:{number}" for number in range(self.accounts_count)]

    def open_accounts(self, port: int) -> None:
        """Make the accounts."""
        bank, *others = self.accounts
        accounts = [{"id": bank, "asset": "EUR/2", "min_balance": None}, *({"id": a, "asset": "EUR/2"} for a in others)]
        with _connected(port) as connection:
            _call(connection, "/v1/assets", {"asset": "EUR/2"})
            status, answer = _call(connection, "/v1/accounts", accounts)
        assert status == 200, answer

    @contextmanager
    def running(self, port: int) -> Iterator[Callable[[], None]]:
        """Send from all threads during the block; they end by themselves when the server is gone.

        Gives a function that tells them to stop after what they are at.
        """
        self._round += 1
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._send, args=(port, stop, random.Random(f"{self.seed}-{self._round}-{number}")))
            for number in range(self.threads)
        ]
        for thread in threads:
            thread.start()
        try:
            yield stop.set
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        assert not self.errors, self.errors

    def ask_again(self, port: int) -> int:
        """Ask for all that has no answer again, with the same ids, and return how many those were."""
        unanswered = [item for item in self.items if item.outcome is None]
        with _connected(port) as connection:
            for item in unanswered:
                self._ask_one(connection, item)
        assert not self.errors, self.errors
        return len(unanswered)

    def expected(self) -> dict[str, tuple[int, int]]:
        """Return (balance, held debits) of each account, summed from what was answered."""
        balances: Counter[str] = Counter()
        held: Counter[str] = Counter()
        for item in self.items:
            match item.outcome:
                case "posted":
                    moved = item.amount
                case "held":
                    held[item.source] += item.amount
                    continue
                case "settled":
                    assert item.hold is not None
                    held[item.source] -= item.hold.amount
                    moved = item.amount
                case _:
                    continue
            balances[item.source] -= moved
            balances[item.destination] += moved
        return {account: (balances[account], held[account]) for account in self.accounts}

    def check(self, port: int, *, sample: int = 8) -> None:
        """Check that what was answered is there, each once and nothing else, and is told the same when asked again."""
        with _connected(port) as connection:
            self._check(connection, sample)

    def _check(self, connection: http.client.HTTPConnection, sample: int) -> None:
        page = _get(connection, "/v1/accounts?prefix=load:&limit=1000&consistency=linearizable")
        found = {a["id"]: (int(a["balance"]), int(a["held_debits"])) for a in page["accounts"]}
        assert found == self.expected()
        assert sum(balance for balance, _ in found.values()) == 0
        chance = random.Random(f"{self.seed}-{self._round}-check")
        answered = [item for item in self.items if item.outcome is not None]
        for item in chance.sample(answered, min(sample, len(answered))):
            stored = _get(connection, f"/v1/transactions/{item.id}")
            assert (stored["outcome"], stored["kind"]) == (item.outcome, item.kind)
            assert stored["postings"] == item.body["postings"]
            assert item.position in {None, stored["position"]}
            before = item.outcome, stored["position"]
            self._ask_one(connection, item)
            assert (item.outcome, item.position) == before

    # --- sending -------------------------------------------------------------------------------------------------

    def _send(self, port: int, stop: threading.Event, chance: random.Random) -> None:
        try:
            with _connected(port) as connection:
                self._send_until(connection, stop, chance)
        except RefusedError as error:
            self.refusals.append(str(error))
        except HttpError:
            pass  # the server is gone: what was asked last has no answer
        except Exception as error:
            self.errors.append(repr(error))
            raise

    def _send_until(self, connection: http.client.HTTPConnection, stop: threading.Event, chance: random.Random) -> None:
        while not stop.is_set():
            match chance.choice(self._kinds):
                case "post":
                    self._ask_one(connection, self._new(chance))
                case "array":
                    self._ask_array(connection, [self._new(chance) for _ in range(chance.randint(1, 20))])
                case "rows":
                    self._ask_rows(connection, [self._new(chance) for _ in range(chance.randint(1, 50))])
                case "hold":
                    self._hold_and_settle(connection, chance)

    def _new(self, chance: random.Random, kind: str = "post", hold: Item | None = None) -> Item:
        source, destination = chance.sample(self.accounts, 2)
        if chance.random() < 0.3:
            source, destination = self.accounts[0], chance.choice(self.accounts[1:])
        item = Item(new_id(), kind, source, destination, chance.randint(1, 1_000))
        if hold is not None:
            item.source, item.destination, item.hold = hold.source, hold.destination, hold
            item.amount = chance.randint(1, hold.amount)
        with self._lock:
            self.items.append(item)
        return item

    def _hold_and_settle(self, connection: http.client.HTTPConnection, chance: random.Random) -> None:
        hold = self._new(chance, "hold")
        self._ask_one(connection, hold)
        if hold.outcome == "held" and chance.random() < 0.8:
            self._ask_one(connection, self._new(chance, "settle", hold))

    def _ask_one(self, connection: http.client.HTTPConnection, item: Item) -> None:
        status, answer = _call(connection, "/v1/transactions", item.body)
        if status not in {200, 409}:
            self.errors.append(f"{status} {answer}")
            return
        self._note(item, answer)

    def _ask_array(self, connection: http.client.HTTPConnection, items: list[Item]) -> None:
        status, answer = _call(connection, "/v1/transactions", [item.body for item in items])
        assert status == 200, answer
        for item, result in zip(items, answer, strict=True):
            self._note(item, result)

    def _ask_rows(self, connection: http.client.HTTPConnection, items: list[Item]) -> None:
        body = msgspec.msgpack.encode([item.row for item in items])
        connection.request("POST", "/v1/transactions", body, {"Content-Type": "application/msgpack"})
        response = connection.getresponse()
        body = response.read()
        if response.status == 503:
            raise RefusedError(body)
        answer = msgspec.msgpack.decode(body)
        assert response.status == 200, answer
        for item, result in zip(items, answer, strict=True):
            assert result["id"] == item.row[0]
            self._note(item, {**result, "id": item.id})

    def _note(self, item: Item, answer: dict[str, Any]) -> None:
        assert answer["id"] == item.id
        item.outcome, item.position = answer["outcome"], answer["position"]


def _connected(port: int) -> "closing[http.client.HTTPConnection]":
    return closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30))


def _call(connection: http.client.HTTPConnection, path: str, body: Any) -> tuple[int, Any]:
    connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status == 503:
        raise RefusedError(answer)
    return response.status, answer


def _get(connection: http.client.HTTPConnection, path: str) -> Any:
    connection.request("GET", path)
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.status == 200, answer
    return answer
