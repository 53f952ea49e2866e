"""The real ledger behind the protocol that an import needs: in memory, a frame for each call, on a clock of its own."""

import json
from collections.abc import Mapping, Sequence

from fivenines.api import Account, ItemResult, NewAccount, NewTransaction
from fivenines.ledger import Batch, Command, OpenAccount, Outcome, Post, Posting, RegisterAsset, State, apply
from fivenines.ledger import Status as LedgerStatus

STATUS_NAMES = {LedgerStatus.open: "open", LedgerStatus.frozen: "frozen", LedgerStatus.closed: "closed"}


class CutOffError(Exception):
    """The connection broke, as planned."""


class LedgerBooks:
    """Books kept by `fivenines.ledger` itself.

    Attributes:
        cut_after: the number of posting calls after which the next one breaks: half of it is carried out, and nobody
            hears of it.
    """

    def __init__(self, *, now_ms: int, cut_after: int | None = None) -> None:
        self.state = State()
        self.now_ms = now_ms
        self.cut_after = cut_after
        self.calls: list[str] = []

    def position(self) -> int:
        return self.state.position

    def create_assets(self, assets: Sequence[str]) -> None:
        for outcome, _ in self._frame([RegisterAsset(asset) for asset in assets]):
            assert outcome == Outcome.done

    def open_accounts(self, accounts: Sequence[NewAccount]) -> list[ItemResult]:
        commands = [
            OpenAccount(
                account.id,
                account.asset,
                None if account.min_balance is None else int(account.min_balance),
                None if account.max_balance is None else int(account.max_balance),
                json.dumps(account.metadata).encode() if account.metadata else None,
            )
            for account in accounts
        ]
        results = self._frame(commands)
        return [
            ItemResult(account.id, outcome.name, position)
            for account, (outcome, position) in zip(accounts, results, strict=True)
        ]

    def post(self, transactions: Sequence[NewTransaction]) -> list[ItemResult]:
        self.calls.append("post")
        if self.cut_after is not None and self.calls.count("post") > self.cut_after:
            self._frame([_post(transaction) for transaction in transactions[: len(transactions) // 2]])
            raise CutOffError
        results = self._frame([_post(transaction) for transaction in transactions])
        return [
            ItemResult(str(transaction.id), outcome.name, position)
            for transaction, (outcome, position) in zip(transactions, results, strict=True)
        ]

    def balances(self, accounts: Sequence[str]) -> Mapping[str, int]:
        self.calls.append("balances")
        return {id: self.state.accounts[id].balance for id in accounts if id in self.state.accounts}

    def account(self, account_id: str) -> Account | None:
        found = self.state.accounts.get(account_id)
        if found is None:
            return None
        return Account(
            id=found.id,
            asset=found.asset.name,
            status=STATUS_NAMES[found.status],  # type: ignore[arg-type]
            balance=found.balance,
            available=found.available,
            debits=found.debits,
            credits=found.credits,
            held_debits=found.held_debits,
            held_credits=found.held_credits,
            min_balance=found.min_balance,
            max_balance=found.ceiling,
            metadata=json.loads(found.metadata) if found.metadata else {},
        )

    def all_balances(self) -> dict[str, int]:
        """Every balance, having made sure that no money was made or lost."""
        assert self.state.imbalances() == {}
        return {id: account.balance for id, account in self.state.accounts.items()}

    def _frame(self, commands: Sequence[Command]) -> list[tuple[Outcome, int | None]]:
        applied = apply(self.state, Batch(bytes(16), self.state.position, self.now_ms * 1000, commands))
        return [
            (Outcome(outcome), applied.repeated.get(index, applied.position))
            for index, outcome in enumerate(applied.outcomes)
        ]


def _post(transaction: NewTransaction) -> Post:
    return Post(
        bytes.fromhex(str(transaction.id).replace("-", "")),
        tuple(Posting(each.source, each.destination, int(each.amount)) for each in transaction.postings),
        transaction.effective_date.isoformat() if transaction.effective_date else None,
        transaction.reference,
        json.dumps(transaction.metadata).encode() if transaction.metadata else None,
    )
