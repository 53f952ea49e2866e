"""fivenines moves money without ever stopping: a double-entry ledger, and the platform that keeps it up.

The folders follow the way of a request: `client` sends it, `node` receives and answers it, `journal` orders it and
makes it last, `ledger` decides it; `api` is what client and node agree on. `importers` read other people's books,
`drill` breaks things on purpose and checks, and `cli` puts the parts together. See docs/architecture.md.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fivenines.client import AsyncLedger, Ledger, LedgerError, NewAccount, NewTransaction, Posting

__all__ = [
    "AsyncLedger",
    "Ledger",
    "LedgerError",
    "NewAccount",
    "NewTransaction",
    "Posting",
    "__version__",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Import the client when it is asked for, so that asking for the version costs nothing."""
    if name in __all__:
        from fivenines import client

        return getattr(client, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
