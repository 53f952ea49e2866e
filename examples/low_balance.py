"""Tell when the balance of a customer's account falls below a limit: a function on events.

    export FIVENINES_URL=http://127.0.0.1:9959
    fivenines functions run examples/low_balance.py --events $FIVENINES_URL --data functions

An event may come twice, after a failure or a kill. So the place of the last event of each account is kept in the same
SQLite transaction as the notification: one that comes again finds its place taken, and nothing is told twice.

    LOW_BALANCE_LIMIT   in the smallest unit; 10000 unless given
    LOW_BALANCE_DB      the file of notifications; low-balance.sqlite unless given
"""

import os
import sqlite3
from contextlib import closing

import fivenines
from fivenines.api import Event

LIMIT = int(os.environ.get("LOW_BALANCE_LIMIT", "10000"))
DATABASE = os.environ.get("LOW_BALANCE_DB", "low-balance.sqlite")
TABLES = """
CREATE TABLE IF NOT EXISTS seen (account TEXT PRIMARY KEY, position INTEGER, item INTEGER, is_low INTEGER);
CREATE TABLE IF NOT EXISTS notifications (event TEXT, account TEXT, balance INTEGER, PRIMARY KEY (event, account));
"""


@fivenines.on("transaction.posted", "transaction.settled", where={"account": "customers:"})
def notify_low_balance(event: Event, context: fivenines.Context) -> None:
    """Notify when a customer falls below the limit, and again only after having been above it."""
    named = {account for posting in event.data.postings for account in (posting.source, posting.destination)}
    customers = sorted(account for account in named if account.startswith("customers:"))
    # At least as far as the event: another node may not have it yet.
    with fivenines.Ledger() as ledger:
        balances = {account: ledger.account(account, at_least=context.position).balance for account in customers}
    with closing(sqlite3.connect(DATABASE, timeout=30, isolation_level=None)) as database:
        database.executescript(TABLES)
        database.execute("BEGIN IMMEDIATE")
        for account, balance in balances.items():
            query = "SELECT position, item, is_low FROM seen WHERE account = ?"
            position, item, was_low = database.execute(query, (account,)).fetchone() or (0, 0, False)
            if (position, item) >= (context.position, context.item):
                continue  # it was here before
            seen = (account, context.position, context.item, balance < LIMIT)
            database.execute("INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)", seen)
            if balance < LIMIT and not was_low:
                database.execute("INSERT INTO notifications VALUES (?, ?, ?)", (event.id, account, balance))
                print(f"{account} has {balance}, which is less than {LIMIT}")
        database.execute("COMMIT")
