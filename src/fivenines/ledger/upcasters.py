"""Lift a batch from the schema it was written in to the next one, for ever.

An upcaster takes and returns the body of a frame as plain lists, as msgpack gives them. It knows the layout of both
schemas by heart and imports nothing of today's, since today's structs will change and old frames will not.

Schema 1 (before the first release): a settlement was always final, so it had no such field.
Schema 2: a settlement says whether it is final; what a non-final one leaves may be settled later.
"""

from collections.abc import Callable
from typing import Any

__all__ = ["UPCASTERS"]

_COMMANDS = 3
_SETTLE = 3


def _settlements_become_final(batch: list[Any]) -> list[Any]:
    """1 -> 2. `[3, id, hold, postings, *rest]` becomes `[3, id, hold, postings, True, *rest]`."""
    commands = [[*c[:4], True, *c[4:]] if c[0] == _SETTLE and len(c) >= 4 else c for c in batch[_COMMANDS]]
    return [*batch[:_COMMANDS], commands, *batch[_COMMANDS + 1 :]]


UPCASTERS: dict[int, Callable[[list[Any]], list[Any]]] = {1: _settlements_become_final}
