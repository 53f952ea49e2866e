"""fivenines moves money without ever stopping: a double-entry ledger, and the platform that keeps it up.

The folders follow the way of a request: `client` sends it, `node` receives and answers it, `journal` orders it and
makes it last, `ledger` decides it; `api` is what client and node agree on. `importers` read other people's books,
`drill` breaks things on purpose and checks, and `cli` puts the parts together. See docs/architecture.md.
"""

__all__ = ["__version__"]

__version__ = "0.1.0"
