"""The ledger: double-entry accounts and transactions as a deterministic state machine.

`apply(state, batch)` is the whole of it: the next frame's commands go in, outcomes come out, and the state is then that
of the next position. Nothing in this package reads a clock, draws a random number or touches a file; two replicas that
applied the same frames hold the same state, to the byte of their `image`.

    commands    what may be asked            accounts, decided, state    what is known
    outcomes    what may be answered         machine, rules              how an answer is found
    codec       frames as bytes              upcasters, downcasters      frames of older versions
    image       a whole state as bytes
"""

from fivenines.ledger.accounts import Account, Asset, OpenHold, Status
from fivenines.ledger.codec import SCHEMA, CodecError, decode, encode, need_of
from fivenines.ledger.commands import (
    AMOUNT_MAX,
    POST_ONE_AMOUNT_MAX,
    Activate,
    Batch,
    ChangeAccount,
    Command,
    Hold,
    OpenAccount,
    Post,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
    Transaction,
)
from fivenines.ledger.decided import Decided
from fivenines.ledger.image import IMAGE_VERSION, ImageError, digest, image, image_of_accounts, restore
from fivenines.ledger.machine import Applied, RulesUnsupportedError, apply
from fivenines.ledger.outcomes import Outcome
from fivenines.ledger.state import RULES, Rules, State, id_time_ms

__all__ = [
    "AMOUNT_MAX",
    "IMAGE_VERSION",
    "POST_ONE_AMOUNT_MAX",
    "RULES",
    "SCHEMA",
    "Account",
    "Activate",
    "Applied",
    "Asset",
    "Batch",
    "ChangeAccount",
    "CodecError",
    "Command",
    "Decided",
    "Hold",
    "ImageError",
    "OpenAccount",
    "OpenHold",
    "Outcome",
    "Post",
    "PostOne",
    "Posting",
    "RegisterAsset",
    "Release",
    "Rules",
    "RulesUnsupportedError",
    "Settle",
    "State",
    "Status",
    "Transaction",
    "apply",
    "decode",
    "digest",
    "encode",
    "id_time_ms",
    "image",
    "image_of_accounts",
    "need_of",
    "restore",
]
