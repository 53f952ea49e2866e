"""A node that, once, acknowledges a transaction which it never wrote: whoever imports this becomes one.

A test has one node of a platform import it at its start. No audit among nodes can see it, since all of them apply the
same journal: only who was told so misses it.
"""

from collections.abc import Sequence
from unittest.mock import patch

from fivenines.ledger import Command, Outcome, Post
from fivenines.node.writer import Receipt, Writer

_REQUESTS_BEFORE = 5

_submit = Writer.submit
_left = [_REQUESTS_BEFORE]


async def _submit_but_the_last(
    self: Writer, commands: Sequence[Command], *, size_bytes: int = 0, durable_is_enough: bool = False
) -> Receipt:
    forget = False
    if len(commands) > 1 and isinstance(commands[-1], Post):
        _left[0] -= 1
        forget = _left[0] == 0
    written = commands[:-1] if forget else commands
    receipt = await _submit(self, written, size_bytes=size_bytes, durable_is_enough=durable_is_enough)
    if forget:
        receipt = Receipt(receipt.position, [*receipt.outcomes, Outcome.posted], receipt.repeated)
    return receipt


patch.object(Writer, "submit", _submit_but_the_last).start()
