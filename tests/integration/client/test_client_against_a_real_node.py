"""The client and a real `fivenines serve` that is killed and stopped under load: nothing fails, nothing comes twice."""

import asyncio
import datetime
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from fivenines import AsyncLedger, Ledger
from fivenines.api import NewAccount, NewTransaction, Posting
from fivenines.client import InvalidRequestError, Limits, NotFoundError, RefusedError
from fivenines.ids import as_text, new_id, new_ids, new_ids16
from tests.e2e.serving import Server
from tests.integration.client.shells import SHELLS, Open

shells = pytest.mark.parametrize("open_ledger", SHELLS)
PATIENT_S = 120.0
"""A deadline that a restart on a busy machine does not meet."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with Server(tmp_path_factory.mktemp("client") / "data") as server:
        yield server.url


@shells
def test_money_goes_its_way_through_a_real_node(open_ledger: Open, url: str) -> None:
    own = f"shell:{open_ledger.__name__}"
    bank, alice, bob = f"{own}:bank", f"{own}:alice", f"{own}:bob"
    with open_ledger(url, limits=Limits(batch_max=3, page=2)) as ledger:
        for _ in range(2):
            ledger.create_asset("EUR/2")
            assert ledger.open_account(bank, asset="EUR/2", min_balance=None).outcome == "done"
        opened = ledger.open_accounts([NewAccount(alice, "EUR/2"), NewAccount(bob, "EUR/2"), NewAccount("x", "ZZZ/9")])
        assert [result.outcome for result in opened] == ["done", "done", "asset_unknown"]

        when = datetime.date(2026, 11, 20)
        id = new_id()
        first, second = (
            ledger.post(source=bank, destination=alice, amount=100, id=id, effective_date=when, reference="r")
            for _ in range(2)
        )
        assert first == second
        found = ledger.transaction(id)
        assert (found.outcome, found.effective_date, found.reference, found.position) == (
            "posted",
            when,
            "r",
            first.position,
        )
        with pytest.raises(RefusedError, match="decided before") as caught:
            ledger.post(source=bank, destination=alice, amount=101, id=id)
        assert (caught.value.outcome, caught.value.id) == ("id_reused", id)
        with pytest.raises(RefusedError, match="insufficient funds"):
            ledger.post(source=alice, destination=bob, amount=101)

        hold = ledger.hold([Posting(alice, bob, 60)], timeout_s=3_600)
        assert ledger.account(alice).available == 40
        assert ledger.settle(hold.id, postings=[Posting(alice, bob, 25)], final=False).outcome == "settled"
        assert ledger.release(hold.id).outcome == "released"
        assert (ledger.account(alice).balance, ledger.account(bob).balance) == (75, 25)

        ledger.freeze(bob)
        with pytest.raises(RefusedError, match="unfreeze"):
            ledger.post(source=alice, destination=bob, amount=1)
        ledger.unfreeze(bob)
        large = 2**100
        many = [NewTransaction(postings=[Posting(bank, bob, large)]), NewTransaction(postings=[Posting(bob, bob, 1)])]
        results = ledger.submit(many * 2)
        assert [result.outcome for result in results] == ["posted", "same_account"] * 2
        assert ledger.account(bob).balance == 25 + 2 * large

        rows = [(id16, bank, alice, 1) for id16 in new_ids16(7)] + [(new_ids16(1)[0], bank, alice, 2**62)]
        assert [result.outcome for result in ledger.submit_rows(rows)] == ["posted"] * 8
        assert ledger.account(alice).balance == 75 + 7 + 2**62

        assert [account.id for account in ledger.accounts(prefix=own)] == [alice, bank, bob]
        assert [account.id for account in ledger.accounts_of([bob, "nobody", alice])] == [bob, alice]
        named = [transaction.id for transaction in ledger.history(bob)]
        assert hold.id in named
        assert len(set(named)) == len(named)
        assert ledger.platform().position == ledger.position


@shells
def test_what_is_wrong_is_told_by_field_and_reason(open_ledger: Open, url: str) -> None:
    with open_ledger(url, limits=Limits(batch_max=2)) as ledger:
        with pytest.raises(NotFoundError, match="nobody"):
            ledger.account("nobody")
        with pytest.raises(NotFoundError):
            ledger.transaction(new_id())
        with pytest.raises(InvalidRequestError) as caught:
            ledger.post(source="a", destination="b", amount=1.5)
        assert caught.value.field == "$.postings[0].amount"
        items = [NewTransaction(postings=[Posting("a", "b", 1)])] * 3 + [NewTransaction(postings=[])]
        with pytest.raises(InvalidRequestError) as caught:
            ledger.submit(items)
        assert caught.value.field == "$[3].postings"
        assert [result.outcome for result in caught.value.answered] == ["account_unknown"] * 2


@shells
def test_a_body_that_is_too_large_for_the_node_is_sent_in_parts(open_ledger: Open, url: str) -> None:
    with open_ledger(url) as ledger:
        items = [
            NewTransaction(id=id, postings=[Posting("a", "b", 1)], metadata={"note": "x" * 4_000})
            for id in new_ids(2_500)
        ]
        results = ledger.submit(items)
        assert [result.id for result in results] == [item.id for item in items]


class Load:
    """Workers that move one unit after another into an account of their own, each under an id that they remember."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stop = threading.Event()
        self.moved = threading.Semaphore(0)
        self.acknowledged: dict[str, list[str]] = {}

    def prepare(self, *workers: str) -> None:
        """Open the accounts."""
        with Ledger(self.url) as ledger:
            ledger.create_asset("EUR/2")
            ledger.open_account("bank", asset="EUR/2", min_balance=None)
            ledger.open_accounts([NewAccount(worker, "EUR/2") for worker in workers])
        self.acknowledged = {worker: [] for worker in workers}

    def acknowledge(self, worker: str, ids: list[str], outcomes: set[str]) -> None:
        """Take note of what was answered."""
        assert outcomes == {"posted"}
        self.acknowledged[worker] += ids
        self.moved.release()

    def singles(self, worker: str) -> None:
        """Post one by one."""
        with Ledger(self.url, deadline_s=PATIENT_S) as ledger:
            while not self.stop.is_set():
                result = ledger.post(source="bank", destination=worker, amount=1)
                self.acknowledge(worker, [result.id], {result.outcome})

    def rows(self, worker: str) -> None:
        """Submit arrays of rows."""
        with Ledger(self.url, deadline_s=PATIENT_S) as ledger:
            while not self.stop.is_set():
                results = ledger.submit_rows([(id, "bank", worker, 1) for id in new_ids16(200)])
                ids = [as_text(result.id) for result in results]
                self.acknowledge(worker, ids, {result.outcome for result in results})

    def tasks(self, worker: str) -> None:
        """Post one by one from many tasks of one event loop."""

        async def post(ledger: AsyncLedger) -> None:
            while not self.stop.is_set():
                result = await ledger.post(source="bank", destination=worker, amount=1)
                self.acknowledge(worker, [result.id], {result.outcome})

        async def run() -> None:
            async with AsyncLedger(self.url, deadline_s=PATIENT_S) as ledger, asyncio.TaskGroup() as group:
                for _ in range(8):
                    group.create_task(post(ledger))

        asyncio.run(run())

    def check(self) -> None:
        """See that each acknowledged transaction is there exactly once, and nothing else."""
        with Ledger(self.url) as ledger:
            total = 0
            for worker, ids in self.acknowledged.items():
                assert len(ids) == len(set(ids)) > 0
                assert ledger.account(worker).balance == len(ids)
                assert sorted(transaction.id for transaction in ledger.history(worker)) == sorted(ids)
                total += len(ids)
            assert ledger.account("bank").balance == -total


@pytest.mark.crash
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_node_that_ends_under_load_and_starts_again_costs_no_request(
    tmp_path: Path, end: signal.Signals, crash_factor: int
) -> None:
    server = Server(tmp_path / "data")
    try:
        load = Load(server.url)
        work: dict[str, Callable[[str], None]] = {
            "single": load.singles,
            "rows": load.rows,
            "tasks": load.tasks,
        }
        load.prepare(*work)
        with ThreadPoolExecutor(len(work)) as pool:
            running = [pool.submit(do, worker) for worker, do in work.items()]
            try:
                for _ in range(3 * crash_factor):
                    for _ in range(60):
                        assert load.moved.acquire(timeout=PATIENT_S), "no progress"
                    if end is signal.SIGKILL:
                        server.kill()
                    else:
                        assert server.stop() == 0
                    server = Server(tmp_path / "data", "--port", str(server.port))
                for _ in range(60):
                    assert load.moved.acquire(timeout=PATIENT_S), "no progress"
            finally:
                load.stop.set()
            for worker in running:
                worker.result()
        load.check()
    finally:
        server.__exit__()


def test_an_overloaded_node_is_waited_for(tmp_path: Path) -> None:
    async def load(url: str) -> int:
        limits = Limits(backoff_s_min=0.01, backoff_s_max=0.2)
        async with AsyncLedger(url, deadline_s=PATIENT_S, limits=limits) as ledger:
            await ledger.create_asset("EUR/2")
            await ledger.open_account("bank", asset="EUR/2", min_balance=None)
            await ledger.open_account("shop", asset="EUR/2")
            async with asyncio.TaskGroup() as group:
                for _ in range(50):
                    group.create_task(ledger.post(source="bank", destination="shop", amount=1))
            return (await ledger.account("shop")).balance

    with Server(tmp_path / "data", "--queue", "1") as server:
        assert asyncio.run(load(server.url)) == 50
