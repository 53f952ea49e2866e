"""Commands: what a frame carries and the state machine decides, one outcome for each.

The structs are the wire form of the current schema as well (see `codec`): arrays with a small number in front that
names the command. They are frozen, and small ones stay out of the garbage collector's sight, because a busy node makes
hundreds of thousands of them a second.

`PostOne` is the transaction that nearly everybody sends: one posting and nothing else. It exists for speed alone.
`Post` says the same and more, and one posting in either form is the same content under the same id.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta, Struct

__all__ = [
    "AMOUNT_MAX",
    "POST_ONE_AMOUNT_MAX",
    "Activate",
    "Batch",
    "ChangeAccount",
    "Command",
    "Hold",
    "OpenAccount",
    "Post",
    "PostOne",
    "Posting",
    "RegisterAsset",
    "Release",
    "Settle",
    "Transaction",
]

AMOUNT_MAX = 2**127 - 1
"""The largest amount, and the largest total of an account: what fits a signed 128-bit integer."""

POST_ONE_AMOUNT_MAX = 2**62 - 1
"""The largest amount of a `PostOne`. Far below `AMOUNT_MAX`, so that the fast path need not watch for overflow."""

if TYPE_CHECKING:
    WideInt = int
else:
    # On the wire an integer beyond 64 bits is sixteen bytes, since msgpack ends there. Only the codec sees those.
    WideInt = int | Annotated[bytes, Meta(min_length=16, max_length=16)]

Id = Annotated[bytes, Meta(min_length=16, max_length=16)]
AccountName = Annotated[str, Meta(max_length=128)]


class Posting(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """A movement of an amount, in the asset's smallest units, from one account to another."""

    source: AccountName
    destination: AccountName
    amount: WideInt


class PostOne(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False, tag=0):
    """Move one amount, up to `POST_ONE_AMOUNT_MAX`."""

    id: Id
    source: AccountName
    destination: AccountName
    amount: Annotated[int, Meta(ge=1, le=POST_ONE_AMOUNT_MAX)]


class Post(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=1):
    """Move money by several postings, one after the other, all or none."""

    id: Id
    postings: tuple[Posting, ...]
    effective_date: str | None = None
    """ISO 8601 calendar date; the books only carry it."""
    reference: str | None = None
    metadata: bytes | None = None
    """A JSON object, as text in UTF-8; the books only carry it."""


class Hold(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=2):
    """Reserve money: it is no longer available, and not yet moved."""

    id: Id
    postings: tuple[Posting, ...]
    timeout_us: int | None = None
    """Journal time, in microseconds, after which the hold gives its money back by itself; None: never."""
    effective_date: str | None = None
    reference: str | None = None
    metadata: bytes | None = None


class Settle(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=3):
    """Move money that is held: all that is left of it, or the given postings."""

    id: Id
    hold: Id
    postings: tuple[Posting, ...] = ()
    final: bool = True
    """Whether what is left is released; if not, a later settlement may take it."""
    effective_date: str | None = None
    reference: str | None = None
    metadata: bytes | None = None


class Release(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=4):
    """Give all that is left of a hold back."""

    id: Id
    hold: Id
    effective_date: str | None = None
    reference: str | None = None
    metadata: bytes | None = None


class OpenAccount(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=5):
    """Open an account. Its name is its identity: opening it again with the same content changes nothing."""

    account: AccountName
    asset: str
    min_balance: WideInt | None = 0
    max_balance: WideInt | None = None
    metadata: bytes | None = None


class ChangeAccount(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=6):
    """Change an account: its status, or its limits (both at once), or its metadata; None leaves a thing as it is."""

    id: Id
    account: AccountName
    status: Annotated[int, Meta(ge=0, le=2)] | None = None
    limits: tuple[WideInt | None, WideInt | None] | None = None
    """(min_balance, max_balance)"""
    metadata: bytes | None = None


class RegisterAsset(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=7):
    """Register an asset, such as `EUR/2`."""

    asset: Annotated[str, Meta(max_length=24)]


class Activate(Struct, array_like=True, frozen=True, forbid_unknown_fields=True, tag=8):
    """Put newer rules in force, from the next frame on."""

    rules: int


Transaction = Post | Hold | Settle | Release
"""A transaction in its full form; `PostOne` is the short one."""

Command = PostOne | Post | Hold | Settle | Release | OpenAccount | ChangeAccount | RegisterAsset | Activate


class Batch(Struct, array_like=True, frozen=True, forbid_unknown_fields=True):
    """What a frame carries: the commands of one writer, in order, and the time at which it wrote them."""

    writer: bytes
    """Names the process that wrote it: sixteen random bytes, new at each start."""
    sequence: int
    """Counts the writer's frames, so that it knows its own when they come back."""
    time_us: int
    """The writer's clock, microseconds since 1970."""
    commands: Sequence[Command]
