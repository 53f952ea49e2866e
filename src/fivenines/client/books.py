"""A ledger as an import needs it: what `fivenines.importers` calls `Books`, on a `Ledger`."""

from collections.abc import Mapping, Sequence

from fivenines import api
from fivenines.client.errors import NotFoundError
from fivenines.client.sync_ledger import Ledger

__all__ = ["LedgerBooks"]


class LedgerBooks:
    """The few things an import needs of a ledger, each retried by the client until its deadline."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def position(self) -> int:
        """Return the ledger's position now."""
        return self._ledger.platform().position

    def create_assets(self, assets: Sequence[str]) -> None:
        """Register assets; those that are registered already stay."""
        for asset in assets:
            self._ledger.create_asset(asset)

    def open_accounts(self, accounts: Sequence[api.NewAccount]) -> Sequence[api.ItemResult]:
        """Open accounts, with an outcome for each, in order."""
        return self._ledger.open_accounts(accounts)

    def post(self, transactions: Sequence[api.NewTransaction]) -> Sequence[api.ItemResult]:
        """Carry out transactions one after another, with an outcome for each, in order."""
        return self._ledger.submit(transactions)

    def balances(self, accounts: Sequence[str]) -> Mapping[str, int]:
        """Return the balances, in smallest units, of those of the accounts that exist."""
        return {account.id: account.balance for account in self._ledger.accounts_of(accounts)}

    def account(self, account_id: str) -> api.Account | None:
        """Return one account, or None when there is none of this id."""
        try:
            return self._ledger.account(account_id)
        except NotFoundError:
            return None
