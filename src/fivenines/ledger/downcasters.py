"""Lower a batch from its schema to the one before, for as long as nodes of older releases run beside ours.

A downcaster takes and returns the body of a frame as plain lists, like an upcaster, and is its opposite. It is only
given what the older schema can say: whoever asks for more was refused before (`codec.need_of`). When no release that
writes the older schema is supported any more, its downcaster goes; its upcaster never does.

Schema 2 is the floor: no release wrote an older one.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["DOWNCASTERS"]

DOWNCASTERS: dict[int, Callable[[list[Any]], list[Any]]] = {}
"""By the schema that they lower from."""
