"""Import payment orders (pain.001), statements (camt.053) and notifications (camt.054) of ISO 20022.

Accounts, each in one currency, since an IBAN may be kept in several, and all without a lower limit:

    iban:IBAN:EUR               an account that a message is about, or pays to
    acct:ID:EUR                 the same, where the message knows no IBAN
    counterparty:iban:IBAN:EUR  the other side of an entry in a statement or notification
    iso20022:external:EUR       the other side, where the message does not name it
    iso20022:opening:EUR        the balance before the first statement

A payment is a transaction of one posting; an entry is a transaction with a posting for each of its details, if they
make up the entry. The other side of an entry is an account of its own, not `iban:...`: a transfer between two accounts
stands in the statements of both, and must move each once. After each statement of a camt.053 the ledger's balance must
be the closing balance; before it, it must be the opening balance, so a missing statement is refused by name.

A message is identified by its type, its MsgId and its time of creation: importing the same one again changes nothing,
and another one of the same identity is refused.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Any

from fivenines.api import POSTINGS_MAX, NewAccount, NewTransaction, Posting
from fivenines.importers.ids import SEQUENCE_MAX, row_id
from fivenines.importers.iso20022.messages import (
    Group,
    Message,
    Money,
    Movement,
    read_message,
    total_by_currency,
)
from fivenines.importers.money import CURRENCY_SCALES
from fivenines.importers.port import BooksDifferError, Check, Facts, Step

__all__ = ["Iso20022Import", "Iso20022Importer", "importer"]

_OTHER_THAN_ACCOUNT_ID = re.compile(r"[^A-Za-z0-9_.\-]")
_NAME_CHARACTERS_MAX = 64
_TEXT_CHARACTERS_MAX = 280
_REFERENCE_CHARACTERS_MAX = 256


class Iso20022Import:
    """One message that was read and is sound."""

    def __init__(self, message: Message) -> None:
        self._message = message
        self._identity = f"{message.type}\0{message.id}\0{message.created}"

    @property
    def books(self) -> str:
        """The type and the identity of the message."""
        return f"{self._message.type}:{_name(self._message.id)}:{_hash(self._identity)}"

    @property
    def rows(self) -> int:
        """How many payments or booked entries there are."""
        return sum(len(group.movements) for group in self._message.groups)

    def summary(self) -> dict[str, Any]:
        """The message in short."""
        movements = [movement for group in self._message.groups for movement in group.movements]
        return {
            "message": f"{self._message.type}.001.{self._message.version:02d}",
            "message_id": self._message.id,
            "groups": len(self._message.groups),
            "movements": len(movements),
            "totals": total_by_currency(movements),
            "entries_not_booked": sum(group.left_out for group in self._message.groups),
            "to_itself": sum(not _postings(group, movement, self._message) for group, movement in self._pairs()),
        }

    def assets(self) -> Sequence[str]:
        """One for each currency, in order."""
        return [_asset(currency) for currency in self._currencies()]

    def accounts(self) -> Iterator[NewAccount]:
        """Every account that a booking may name, in order."""
        found: dict[str, str] = {}
        for group in self._message.groups:
            if group.opening is not None:
                found[_account(group.account, group.opening)] = _asset(group.opening.currency)
                found[f"iso20022:opening:{group.opening.currency}"] = _asset(group.opening.currency)
        for group, movement in self._pairs():
            for posting in _postings(group, movement, self._message):
                found[posting.source] = found[posting.destination] = _asset(movement.money.currency)
        for account, asset in sorted(found.items()):
            yield NewAccount(id=account, asset=asset, min_balance=None)

    def prior(self) -> Sequence[str]:
        """The accounts of the statements."""
        return sorted(self._openings())

    def decide(self, balances: Mapping[str, int]) -> Mapping[str, Any]:
        """Take the opening balance of an account that is new to the ledger, and insist on it for one that is not."""
        opened = 0  # a bit for each account: anchors hold little, messages may hold many accounts
        for place, (account, opening) in enumerate(sorted(self._openings().items())):
            if account not in balances:
                opened |= 1 << place
            elif balances[account] != opening.amount:
                has = Money(balances[account], opening.currency)
                raise BooksDifferError(
                    f"the statement of {account} opens with {opening}, but the ledger has {has}: "
                    f"a statement is missing, or something else moved the account"
                )
        return {"opened": f"{opened:x}", "content": self._content()}

    def steps(self, facts: Facts) -> Iterator[Step]:
        """A step for each payment information, statement or notification."""
        if facts.notes.get("content") != self._content():
            raise BooksDifferError(
                f"{self._message.type} {self._message.id} of {self._message.created} was imported before, "
                f"with other content: nothing was changed"
            )
        opened = int(facts.notes["opened"], 16)
        to_open = {account for place, account in enumerate(self.prior()) if opened >> place & 1}
        sequence = 0
        for number, group in enumerate(self._message.groups):
            transactions: list[NewTransaction] = []
            if group.opening is not None and (account := _account(group.account, group.opening)) in to_open:
                to_open.remove(account)
                if group.opening.amount:
                    transactions.append(self._opening(group.opening, account, sequence, facts.base_time_ms))
            for place, movement in enumerate(group.movements):
                sequence += 1
                if postings := _postings(group, movement, self._message):
                    identity = f"{self._identity}\0{number}\0{place}"
                    transactions.append(self._transaction(movement, postings, identity, sequence, facts.base_time_ms))
            checks = []
            if group.closing is not None:
                account = _account(group.account, group.closing)
                checks.append(Check(account, group.closing.amount, label=f"statement {group.id} of {account}"))
            yield Step(transactions=transactions, rows=len(group.movements), checks=checks, label=group.id)

    def _opening(self, opening: Money, account: str, sequence: int, base_time_ms: int) -> NewTransaction:
        return NewTransaction(
            id=_id(f"{self._identity}\0opening\0{account}", sequence, base_time_ms),
            postings=[_posting(f"iso20022:opening:{opening.currency}", account, opening.amount)],
            reference=f"opening balance of {account}",
            metadata={"message": self._message.id[:_TEXT_CHARACTERS_MAX]},
        )

    def _transaction(
        self, movement: Movement, postings: list[Posting], identity: str, sequence: int, base_time_ms: int
    ) -> NewTransaction:
        metadata = {"message": self._message.id, "name": movement.name, "remittance": movement.remittance}
        return NewTransaction(
            id=_id(identity, sequence, base_time_ms),
            postings=postings,
            effective_date=movement.date,
            reference=movement.reference[:_REFERENCE_CHARACTERS_MAX] or None,
            metadata={key: text[:_TEXT_CHARACTERS_MAX] for key, text in metadata.items() if text},
        )

    def _pairs(self) -> Iterator[tuple[Group, Movement]]:
        return ((group, movement) for group in self._message.groups for movement in group.movements)

    def _currencies(self) -> list[str]:
        found = {movement.money.currency for _, movement in self._pairs()}
        return sorted(found | {group.opening.currency for group in self._message.groups if group.opening is not None})

    def _openings(self) -> dict[str, Money]:
        """The first opening balance of each account that has a statement here."""
        openings: dict[str, Money] = {}
        for group in self._message.groups:
            if group.opening is not None:
                openings.setdefault(_account(group.account, group.opening), group.opening)
        return openings

    def _content(self) -> str:
        return _hash(repr(self._message.groups))


class Iso20022Importer:
    """Opens files of ISO 20022."""

    name = "iso20022"

    def open(self, path: Path) -> Iso20022Import:
        """Read one message from one file."""
        return Iso20022Import(read_message(path))


importer = Iso20022Importer()


def _postings(group: Group, movement: Movement, message: Message) -> list[Posting]:
    """The postings of a movement; none where the money goes from an account to itself, or is nothing."""
    own = _account(group.account, movement.money)
    prefix = "" if message.type == "pain.001" else "counterparty:"
    amounts: dict[str, int] = {}
    for detail in movement.details:
        named = _account(detail.counterparty or "iso20022:external", movement.money)
        account = f"{prefix}{named}" if detail.counterparty else named
        amounts[account] = amounts.get(account, 0) + detail.amount
    amounts.pop(own, None)
    if len(amounts) > POSTINGS_MAX:
        amounts = {_account("iso20022:external", movement.money): sum(amounts.values())}
    sign = 1 if movement.is_credit else -1
    return [_posting(other, own, sign * amount) for other, amount in amounts.items() if amount]


def _posting(other: str, own: str, amount: int) -> Posting:
    if amount > 0:
        return Posting(source=other, destination=own, amount=amount)
    return Posting(source=own, destination=other, amount=-amount)


def _account(name: str, money: Money) -> str:
    """The id of an account of a currency: the name as far as an id can hold it, and else told apart by a hash."""
    kind, _, rest = name.partition(":")
    return f"{kind}:{_name(rest)}:{money.currency}"


def _name(text: str) -> str:
    plain = _OTHER_THAN_ACCOUNT_ID.sub("_", text)[:_NAME_CHARACTERS_MAX]
    return plain if plain == text else f"{plain}.{_hash(text)}"


def _hash(text: str) -> str:
    return blake2b(text.encode(), digest_size=8).hexdigest()


def _asset(currency: str) -> str:
    return f"{currency}/{CURRENCY_SCALES[currency]}"


def _id(identity: str, sequence: int, base_time_ms: int) -> str:
    assert sequence <= SEQUENCE_MAX
    return row_id(importer="iso20022", identity=identity, sequence=sequence, base_time_ms=base_time_ms)
