"""fivenines moves money without ever stopping: a double-entry ledger, and the platform that keeps it up.

The folders follow the way of a request: `client` sends it, `node` receives and answers it, `journal` orders it and
makes it last, `ledger` decides it; `api` is what client and node agree on. `importers` read other people's books,
`drill` breaks things on purpose and checks, and `cli` puts the parts together. See docs/architecture.md.

From here an application takes the clients, `Ledger` and `AsyncLedger`, and `on`, for functions on events.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fivenines.client import AsyncLedger, Ledger
    from fivenines.functions import Context, on

__all__ = ["AsyncLedger", "Context", "Ledger", "__version__", "on"]

__version__ = "0.1.0"

if not TYPE_CHECKING:  # so that a type checker still sees which names there are

    def __getattr__(name: str) -> object:
        # Each of our processes imports this module, and few of them are clients: those that are not need no httpx.
        if name in {"AsyncLedger", "Ledger"}:
            from fivenines import client

            return getattr(client, name)
        if name in {"Context", "on"}:
            from fivenines import functions

            return getattr(functions, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
