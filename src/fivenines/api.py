"""The contract of the HTTP API: what a request and an answer look like.

The gateway, the client and the importers share these types; each field's documentation ends up in the OpenAPI document.
Amounts are integers in the asset's smallest unit. JSON readers in other languages lose digits beyond 2^53, so an amount
is accepted as a number or as a string of digits, and is written as a string where it is beyond 2^53 - 1.
"""

import datetime
from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = [
    "ACCOUNT_ID_PATTERN",
    "METADATA_BYTES_MAX",
    "POSTINGS_MAX",
    "TRANSACTION_ID_PATTERN",
    "Accepted",
    "Account",
    "AccountChange",
    "AccountId",
    "Accounts",
    "Amount",
    "Asset",
    "Balance",
    "Event",
    "Events",
    "FleetNode",
    "History",
    "ItemResult",
    "NewAccount",
    "NewTransaction",
    "Platform",
    "Posting",
    "Problem",
    "RowResult",
    "RulesInForce",
    "RulesWanted",
    "Transaction",
    "TransactionId",
]

POSTINGS_MAX = 1_000
METADATA_BYTES_MAX = 4_096
# The end is \Z, not $, which Python lets match before a line break too; the OpenAPI document says $.
ACCOUNT_ID_PATTERN = r"^[A-Za-z0-9:_.\-]{1,128}\Z"
TRANSACTION_ID_PATTERN = r"^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-7[0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}\Z"

AccountId = Annotated[
    str,
    Meta(
        pattern=ACCOUNT_ID_PATTERN,
        description="1 to 128 characters of A-Z a-z 0-9 : _ . -",
        examples=["customers:alice"],
    ),
]
TransactionId = Annotated[
    str,
    Meta(
        pattern=TRANSACTION_ID_PATTERN,
        description="A UUIDv7 (RFC 9562), made by the client: retrying with the same id is always safe.",
        examples=["01932c07-209c-7d2f-8f0e-5b6a1c2d3e4f"],
    ),
]
AssetName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Z][A-Z0-9]{0,15}/([0-9]|[12][0-9]|3[0-6])\Z",
        description="Code and scale: the number of decimals between the unit of the code and the smallest unit.",
        examples=["EUR/2", "BTC/8", "JPY/0"],
    ),
]
Amount = Annotated[
    int | str, Meta(description="Smallest units of the asset, 0 < amount < 2^127: a number or a string of digits.")
]
Balance = Annotated[
    int | str, Meta(description="Smallest units of the asset; a string of digits where it is beyond 2^53 - 1.")
]


class Asset(Struct, frozen=True, forbid_unknown_fields=True):
    """An asset that accounts may be kept in."""

    asset: AssetName


class NewAccount(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An account to open. Opening it again with the same content changes nothing and answers the same."""

    id: AccountId
    asset: AssetName
    min_balance: Balance | None = 0
    """The lowest available balance; null for no limit. The default of 0 forbids an overdraft."""
    max_balance: Balance | None = None
    """The highest balance; null for no limit."""
    metadata: dict[str, Any] = {}


class AccountChange(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A change of an account; what is left out stays as it is."""

    id: TransactionId | None = None
    """The id of this change. A change without one is not safe to retry."""
    status: Literal["open", "frozen", "closed"] | UnsetType = UNSET
    min_balance: Balance | None | UnsetType = UNSET
    max_balance: Balance | None | UnsetType = UNSET
    metadata: dict[str, Any] | UnsetType = UNSET


class Posting(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """A movement of an amount from one account to another of the same asset."""

    source: AccountId
    destination: AccountId
    amount: Amount


class NewTransaction(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A transaction to be decided: all of its postings are carried out, in their order, or none."""

    kind: Literal["post", "hold", "settle", "release"] = "post"
    id: TransactionId | None = None
    """A UUIDv7. Left out, the server makes one, and the request is not safe to retry."""
    postings: list[Posting] = []
    """1 to 1,000 of them; a settlement may leave them out to settle all that is held, a release has none."""
    hold: TransactionId | None = None
    """The hold that a settlement or a release is about."""
    final: bool = True
    """Of a settlement: whether what it leaves of the hold is released."""
    timeout_s: Annotated[int, Meta(ge=1, le=31_622_400)] | None = None
    """Of a hold: it expires after so many seconds of journal time. Left out: never."""
    effective_date: datetime.date | None = None
    reference: Annotated[str, Meta(max_length=256)] | None = None
    metadata: dict[str, Any] = {}


class ItemResult(Struct, frozen=True, omit_defaults=True, gc=False):
    """The outcome of one transaction."""

    id: str
    outcome: str
    position: int | None = None
    """The frame that decided it: for a repeated id the first one, where it is still known."""
    safe_to_retry: bool = True
    """False where the request gave no id: to send it again would do it again."""


class RowResult(Struct, frozen=True, omit_defaults=True, gc=False):
    """The outcome of one transaction that came as a row in msgpack; the id is 16 bytes."""

    id: bytes
    outcome: str
    position: int | None = None


class Accepted(Struct, frozen=True, omit_defaults=True):
    """The answer to `Prefer: respond-async`: what was asked is durable, and will be decided as everywhere."""

    position: int
    """The frame that carries it; reading with `at_least` this position shows the outcome."""
    ids: list[str]
    safe_to_retry: bool = True


class Account(Struct, frozen=True):
    """An account as it stands at the answer's `Ledger-Position`."""

    id: str
    asset: str
    status: Literal["open", "frozen", "closed"]
    balance: Balance
    """credits - debits"""
    available: Balance
    """balance - held_debits"""
    debits: Balance
    credits: Balance
    held_debits: Balance
    held_credits: Balance
    min_balance: Balance | None
    max_balance: Balance | None
    metadata: dict[str, Any]


class Transaction(Struct, frozen=True, omit_defaults=True):
    """A transaction that was decided."""

    id: str
    kind: Literal["post", "hold", "settle", "release"]
    outcome: str
    position: int
    time: str
    """The time that the frame's writer stamped on it, RFC 3339, UTC."""
    postings: list[Posting] = []
    hold: str | None = None
    final: bool = True
    timeout_s: int | None = None
    effective_date: datetime.date | None = None
    reference: str | None = None
    metadata: dict[str, Any] = {}
    state: Literal["open", "settled", "released", "expired"] | None = None
    """Of a hold: whether it is open, or how it ended. Not part of an event or of a history, which tell what was."""
    remaining: list[Posting] = []
    """Of an open hold: what is still held."""
    expires: str | None = None
    """Of an open hold with a timeout: the journal's time from which on it gives its money back."""


class Event(Struct, frozen=True, kw_only=True):
    """Something that happened in the books, as a CloudEvent 1.0."""

    specversion: str = "1.0"
    id: str
    """Position and index within the frame: ascending, and the same on every node."""
    source: str
    type: str
    subject: str
    """The transaction's id."""
    time: str
    datacontenttype: str = "application/json"
    accounts: str | UnsetType = UNSET
    """Of a settlement or a release: the accounts of its hold, with commas; absent where nobody knows them any more."""
    data: Transaction


class Accounts(Struct, frozen=True):
    """A page of accounts, in the order of their ids."""

    accounts: list[Account]
    next: str | None
    """What to pass as `after` for the next page, null at the end."""


class History(Struct, frozen=True):
    """A page of an account's transactions, the newest first; it may be empty and yet have a next one."""

    transactions: list[Transaction]
    next: int | None
    """What to pass as `before` for the next page, null at the end."""


class Events(Struct, frozen=True):
    """Events after a position, the oldest first."""

    events: list[Event]
    position: int
    """What to pass as `after` for those that follow."""


class FleetNode(Struct, frozen=True, kw_only=True):
    """What a node last said of itself, or a historian."""

    name: str
    role: Literal["node", "historian"] = "node"
    region: str
    url: str
    version: str
    rules: list[int]
    """The versions of the rules that it can run."""
    position: int
    snapshot_position: int
    """Of the newest snapshot on its disk."""
    heard_s_ago: float
    """How long it has been silent; one that is well says something every few seconds."""
    out_of_service: str | None
    """Why it does not serve, null if it does."""


class Platform(Struct, frozen=True, kw_only=True):
    """What serves here, and how it is."""

    name: str
    version: str
    position: int
    time: str
    """The journal's time."""
    rules: int
    schema: int
    outcomes_digest: str
    """A chain over all outcomes, in hex: equal on all replicas at the same position."""
    assets: list[str]
    accounts: int
    holds_open: int
    journal_first: int
    journal_last: int
    snapshot_position: int
    ready: bool
    unready_reason: str | None
    node: str | None = None
    """The name of this node; null where it is the only one, on a journal of its own."""
    region: str | None = None
    journal_age_s: float = 0.0
    """How long ago this node last heard of the journal's end."""
    runs_rules: list[int] = []
    """The versions of the rules that this node can run."""
    nodes: list[FleetNode] = []
    """All nodes of the journal, this one included, as they last said of themselves."""


class RulesWanted(Struct, frozen=True, forbid_unknown_fields=True):
    """Rules to put in force."""

    version: Annotated[int, Meta(ge=1, le=2**31 - 1)]


class RulesInForce(Struct, frozen=True):
    """Rules that are in force."""

    version: int
    position: int
    """A position at which they are, if not the first one."""


class Problem(Struct, frozen=True, omit_defaults=True):
    """An error, as in RFC 9457."""

    type: str
    title: str
    status: int
    detail: str | None = None
    field: str | None = None
    """The field that is wrong, as a JSON path."""
    outcome: str | None = None
    """Of a refusal by the ledger: its name."""
    id: str | None = None
    position: int | None = None
