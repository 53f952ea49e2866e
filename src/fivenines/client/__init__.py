"""The Python client of a ledger: it makes ids, retries safely, and knows several servers, by URLs or by a name.

    from fivenines.client import Ledger

    with Ledger() as ledger:
        ledger.create_asset("EUR/2")
        ledger.open_account("bank:cash", asset="EUR/2", min_balance=None)
        ledger.open_account("customers:alice", asset="EUR/2")
        ledger.post(source="bank:cash", destination="customers:alice", amount=10_000)
        print(ledger.account("customers:alice").balance)

The way of a call, from the outside in; what decides is free of I/O, and the first three lines carry it out:

    sync_ledger, async_ledger    carry calls out, on httpx           shell     what they share
    racing, workers              several tries at once, in threads
    resolving                    asks nameservers, or the system
    operations                   each operation once, as a call      answers   what a caller gets
    retry                        the tries of a call, and its end    errors    what a caller must handle
    servers, names               where a try may go                  hedging   when a second server is asked as well
    wire                         requests, replies, one judgement
    content                      metadata, checked before it is sent
"""

from fivenines.api import NewAccount, NewTransaction, Posting
from fivenines.client.answers import Account, ItemResult, Row, RowResult, Transaction
from fivenines.client.async_ledger import AsyncLedger
from fivenines.client.errors import (
    InvalidRequestError,
    LedgerError,
    MaybeDoneError,
    NotDoneError,
    NotFoundError,
    RefusedError,
    UnavailableError,
)
from fivenines.client.operations import with_ids
from fivenines.client.retry import Limits
from fivenines.client.sync_ledger import Ledger
from fivenines.ids import new_id, new_ids, new_ids16

__all__ = [
    "Account",
    "AsyncLedger",
    "InvalidRequestError",
    "ItemResult",
    "Ledger",
    "LedgerError",
    "Limits",
    "MaybeDoneError",
    "NewAccount",
    "NewTransaction",
    "NotDoneError",
    "NotFoundError",
    "Posting",
    "RefusedError",
    "Row",
    "RowResult",
    "Transaction",
    "UnavailableError",
    "new_id",
    "new_ids",
    "new_ids16",
    "with_ids",
]
