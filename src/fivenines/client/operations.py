"""What can be asked of a ledger: each operation once, as a call without I/O.

`Ledger` and `AsyncLedger` have these as methods, with the same arguments; there, what is a `Call` here is the answer,
and what is `Pages` here is an iterator. Only `fivenines.client.retry` knows how a call is tried.

Every operation raises what `fivenines.client.errors` describes. Amounts are integers in the smallest unit of the asset.
"""

import datetime
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from fivenines import api
from fivenines.client.answers import ROW_AMOUNT_MAX, Account, ItemResult, Row, RowResult, Transaction
from fivenines.client.content import as_object
from fivenines.client.errors import InvalidRequestError, LedgerError
from fivenines.client.retry import Call, Session, call
from fivenines.client.wire import MSGPACK, Reader, Request, array_body, path, reader
from fivenines.ids import as_text, new_id, new_ids

__all__ = ["Operations", "Page", "Pages", "with_ids"]

T = TypeVar("T")
Item = TypeVar("Item")
Result = TypeVar("Result", ItemResult, RowResult)


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a listing."""

    items: list[T]
    next: str | None
    """What to ask for next; None at the end."""


Pages = Callable[[str | None], Call[Page[T]]]
"""Fetches the first page, given None, and any other, given the `next` of the one before."""


class _Accounts(msgspec.Struct, frozen=True):
    accounts: list[Account]
    next: str | None


class _History(msgspec.Struct, frozen=True):
    transactions: list[Transaction]
    next: int | None


_read_result: Final = reader(ItemResult)
_read_results: Final = reader(list[ItemResult])
_read_account: Final = reader(Account)
_read_row_results: Final = reader(list[RowResult])
_read_accounts: Final = reader(_Accounts)
_read_history: Final = reader(_History)
_read_transaction: Final = reader(Transaction)
_read_platform: Final = reader(api.Platform)
_read_rules: Final = reader(api.RulesInForce)

_IDS_IN_A_URL: Final = 200
"""Of 128 characters at most: well below what servers take as one line."""

_ARRAY_PLACE: Final = re.compile(r"^\$\[(\d+)\]")


def with_ids(transactions: Iterable[api.NewTransaction]) -> list[api.NewTransaction]:
    """Give an id to each transaction that has none. Do it yourself, and keep them, to know the ids before sending."""
    given = list(transactions)
    ids = iter(new_ids(sum(item.id is None for item in given)))
    return [msgspec.structs.replace(item, id=next(ids)) if item.id is None else item for item in given]


def _ignore(_body: bytes, _media_type: str) -> None:
    """Read an answer of which only the status matters."""


class Operations:
    """The operations on the ledger of one session."""

    def __init__(self, session: Session) -> None:
        self.session = session

    # --- assets and accounts

    def create_asset(self, asset: str) -> Call[None]:
        """Register an asset, such as `EUR/2`: its code, and how many decimals its smallest unit has.

        Registering it again changes nothing.
        """
        body = msgspec.json.encode(api.Asset(asset))
        return self._write("/v1/assets", body, _ignore, id=asset)

    def open_account(
        self,
        id: str,
        *,
        asset: str,
        min_balance: int | None = 0,
        max_balance: int | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Call[ItemResult]:
        """Open an account. Opening it again with the same content changes nothing.

        Args:
            id: 1 to 128 characters of `A-Z a-z 0-9 : _ . -`.
            asset: a registered asset.
            min_balance: the lowest available balance; None for no limit. 0 forbids an overdraft.
            max_balance: the highest balance; None for no limit.
            metadata: a small JSON object.
        """
        account = api.NewAccount(id, asset, min_balance, max_balance, as_object(metadata))
        return self._write("/v1/accounts", msgspec.json.encode(account), _read_result, id=id)

    def open_accounts(self, accounts: Iterable[api.NewAccount]) -> Call[list[ItemResult]]:
        """Open many accounts, with an outcome for each, in order: a refusal is an outcome here, not an error."""
        items = list(accounts)
        for item in items:
            as_object(item.metadata)
        return self._write_array("/v1/accounts", items, array_body, lambda item: item.id, _read_results)

    def change_account(
        self,
        id: str,
        *,
        status: Literal["open", "frozen", "closed"] | UnsetType = UNSET,
        min_balance: int | UnsetType | None = UNSET,
        max_balance: int | UnsetType | None = UNSET,
        metadata: Mapping[str, Any] | UnsetType = UNSET,
        change_id: str | None = None,
    ) -> Call[ItemResult]:
        """Change an account; what is left out stays as it is.

        Args:
            id: the account.
            status: a frozen account takes part in no transaction until it is open again; a closed one never again.
            min_balance: None for no limit. The two limits are changed together.
            max_balance: None for no limit.
            metadata: replaces all of it.
            change_id: the id of this change (UUIDv7); made here where it is left out.
        """
        change_id = change_id or new_id()
        content = metadata if isinstance(metadata, UnsetType) else as_object(metadata)
        change = api.AccountChange(change_id, status, min_balance, max_balance, content)
        where = path("v1", "accounts", id)
        return self._write(where, msgspec.json.encode(change), _read_result, id=change_id, method="PATCH")

    def freeze(self, id: str) -> Call[ItemResult]:
        """Keep an account out of all transactions, until `unfreeze`."""
        return self.change_account(id, status="frozen")

    def unfreeze(self, id: str) -> Call[ItemResult]:
        """Let a frozen account take part in transactions again."""
        return self.change_account(id, status="open")

    def close_account(self, id: str) -> Call[ItemResult]:
        """Close an account for ever. It must be empty, with nothing held."""
        return self.change_account(id, status="closed")

    # --- transactions

    def post(
        self,
        *,
        source: str,
        destination: str,
        amount: int,
        id: str | None = None,
        effective_date: datetime.date | None = None,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Call[ItemResult]:
        """Move an amount from one account to another, now.

        Args:
            source: the account that pays.
            destination: the account that is paid.
            amount: smallest units of their asset, above 0.
            id: a UUIDv7; made here where it is left out. Give your own, kept before the call, to be able to repeat it
                even after your own process died.
            effective_date: the date for the books, where it is not that of the posting.
            reference: up to 256 characters of yours.
            metadata: a small JSON object.

        Raises:
            ValueError: the metadata is no JSON; nothing was sent.
            RefusedError: for instance of insufficient funds.
            MaybeDoneError: no answer in time; its `id` tells what to look up.
        """
        return self.transact(
            [api.Posting(source, destination, amount)],
            id=id,
            effective_date=effective_date,
            reference=reference,
            metadata=metadata,
        )

    def transact(
        self,
        postings: Sequence[api.Posting],
        *,
        id: str | None = None,
        effective_date: datetime.date | None = None,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Call[ItemResult]:
        """Carry out several postings in their order: all of them or none. The arguments are as in `post`."""
        return self._transact(
            api.NewTransaction(
                id=id,
                postings=list(postings),
                effective_date=effective_date,
                reference=reference,
                metadata=as_object(metadata),
            )
        )

    def hold(
        self,
        postings: Sequence[api.Posting],
        *,
        timeout_s: int | None = None,
        id: str | None = None,
        effective_date: datetime.date | None = None,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Call[ItemResult]:
        """Reserve what the postings would move, to `settle` or `release` it later by the id in the answer.

        Args:
            postings: what to reserve.
            timeout_s: the hold expires after so many seconds of journal time; None for never.
            id: as in `post`.
            effective_date: as in `post`.
            reference: as in `post`.
            metadata: as in `post`.
        """
        return self._transact(
            api.NewTransaction(
                kind="hold",
                id=id,
                postings=list(postings),
                timeout_s=timeout_s,
                effective_date=effective_date,
                reference=reference,
                metadata=as_object(metadata),
            )
        )

    def settle(
        self,
        hold: str,
        *,
        postings: Sequence[api.Posting] = (),
        final: bool = True,
        id: str | None = None,
        effective_date: datetime.date | None = None,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Call[ItemResult]:
        """Move what a hold reserved, or a part of it.

        Args:
            hold: the hold's id.
            postings: the part to move; left out, all that is still held.
            final: whether what is left of the hold is released.
            id: as in `post`.
            effective_date: as in `post`.
            reference: as in `post`.
            metadata: as in `post`.
        """
        return self._transact(
            api.NewTransaction(
                kind="settle",
                id=id,
                hold=hold,
                postings=list(postings),
                final=final,
                effective_date=effective_date,
                reference=reference,
                metadata=as_object(metadata),
            )
        )

    def release(
        self,
        hold: str,
        *,
        id: str | None = None,
        reference: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Call[ItemResult]:
        """Give back what a hold reserves."""
        return self._transact(
            api.NewTransaction(kind="release", id=id, hold=hold, reference=reference, metadata=as_object(metadata))
        )

    def submit(self, transactions: Iterable[api.NewTransaction]) -> Call[list[ItemResult]]:
        """Submit many transactions, of any kinds, with an outcome for each, in order: a refusal is an outcome here.

        They are decided one after another; each stands or falls by itself. Those without an id get one before the first
        try. More than `Limits.batch_max` are sent in several requests, each with the whole deadline.

        Raises:
            LedgerError: `answered` has the outcomes of the requests before; `ids` of an `UnavailableError`, what it is
                about. What comes after that was not sent.
        """
        items = with_ids(transactions)
        for item in items:
            as_object(item.metadata)
        return self._write_array("/v1/transactions", items, array_body, lambda item: item.id or "", _read_results)

    def submit_rows(self, rows: Sequence[Row]) -> Call[list[RowResult]]:
        """Submit many transactions of one posting each, in the shortest form, for speed; otherwise like `submit`.

        Args:
            rows: `(id16, source, destination, amount)`; `fivenines.client.new_ids16` makes ids of this form.
        """
        if any(row[3] > ROW_AMOUNT_MAX for row in rows):
            return self._submit_rows_in_full(rows)
        return self._write_array(
            "/v1/transactions",
            rows,
            lambda part: (msgspec.msgpack.encode(part), MSGPACK),
            lambda row: row[0],
            _read_row_results,
        )

    # --- reads

    def account(self, id: str, *, at_least: int | None = None, linearizable: bool = False) -> Call[Account]:
        """Return an account as it stands.

        Args:
            id: the account.
            at_least: wait until the server has applied this position.
            linearizable: see all that was acknowledged to anybody, anywhere, before this call: the server goes once
                through the journal before it reads.

        Raises:
            NotFoundError: there is none of this id.
        """
        return self._read(_read_account, "v1", "accounts", id, names=id, at_least=at_least, **_barrier(linearizable))

    def accounts(self, *, prefix: str | None = None, at_least: int | None = None) -> Pages[Account]:
        """Iterate over the accounts, by id, or over those whose id begins with the prefix."""

        def fetch(after: str | None) -> Call[Page[Account]]:
            page = yield from self._read(
                _read_accounts,
                *("v1", "accounts"),
                prefix=prefix,
                after=after,
                limit=self.session.limits.page,
                at_least=at_least,
            )
            return Page(page.accounts, page.next)

        return fetch

    def accounts_of(
        self, ids: Sequence[str], *, at_least: int | None = None, linearizable: bool = False
    ) -> Call[list[Account]]:
        """Return those of the accounts that exist, in the order asked for, each part of 200 as of one position.

        The other arguments are as in `account`.
        """
        found: list[Account] = []
        for begin in range(0, len(ids), _IDS_IN_A_URL):
            part = ",".join(ids[begin : begin + _IDS_IN_A_URL])
            page = yield from self._read(
                _read_accounts, *("v1", "accounts"), ids=part, at_least=at_least, **_barrier(linearizable)
            )
            found += page.accounts
        return found

    def transaction(self, id: str, *, at_least: int | None = None) -> Call[Transaction]:
        """Return a transaction that was decided, refused ones included.

        Raises:
            NotFoundError: none of this id was decided, as far as the server remembers.
        """
        return self._read(_read_transaction, "v1", "transactions", id, names=id, at_least=at_least)

    def history(self, id: str, *, at_least: int | None = None) -> Pages[Transaction]:
        """Iterate over the transactions that named an account, the newest first.

        Raises:
            NotFoundError: there is no such account.
        """

        def fetch(before: str | None) -> Call[Page[Transaction]]:
            page = yield from self._read(
                _read_history,
                *("v1", "accounts", id, "history"),
                names=id,
                before=before,
                limit=self.session.limits.page,
                at_least=at_least,
            )
            return Page(page.transactions, None if page.next is None else str(page.next))

        return fetch

    def platform(self) -> Call[api.Platform]:
        """Return what serves there, and how it is: its position, its assets, whether it is ready."""
        return self._read(_read_platform, "v1", "platform")

    def activate_rules(self, version: int) -> Call[api.RulesInForce]:
        """Put newer rules in force, once every node can run them. Doing it again changes nothing."""
        body = msgspec.json.encode(api.RulesWanted(version))
        return self._write("/v1/platform/rules", body, _read_rules, id=f"rules {version}")

    # --- how

    def _submit_rows_in_full(self, rows: Sequence[Row]) -> Call[list[RowResult]]:
        """Submit rows with amounts that no row may have as what they stand for."""
        results = yield from self.submit(
            api.NewTransaction(id=as_text(id), postings=[api.Posting(source, destination, amount)])
            for id, source, destination, amount in rows
        )
        return [RowResult(row[0], result.outcome, result.position) for row, result in zip(rows, results, strict=True)]

    def _transact(self, transaction: api.NewTransaction) -> Call[ItemResult]:
        id = transaction.id or new_id()
        body = msgspec.json.encode(msgspec.structs.replace(transaction, id=id))
        return self._write("/v1/transactions", body, _read_result, id=id)

    def _write(
        self,
        where: str,
        body: bytes,
        read: Reader[T],
        *,
        id: str,
        method: Literal["POST", "PATCH"] = "POST",
    ) -> Call[T]:
        return call(self.session, Request(method=method, path=where, body=body, ids=(id,), names=id), read)

    def _write_array(
        self,
        where: str,
        items: Sequence[Item],
        encode: Callable[[Sequence[Item]], tuple[bytes, str]],
        id_of: Callable[[Item], str | bytes],
        read: Reader[list[Result]],
    ) -> Call[list[Result]]:
        """Send an array in parts, one after another, so that the order is kept."""
        session = self.session
        longest = session.batch_max
        results: list[Result] = []
        while len(results) < len(items):
            begin = len(results)
            part = items[begin : begin + longest]
            body, media_type = encode(part)
            if len(body) > session.limits.body_bytes_max and len(part) > 1:
                longest = len(part) // 2
                continue
            ids = [id_of(item) for item in part]
            request = Request(method="POST", path=where, body=body, media_type=media_type, ids=ids)
            try:
                results += yield from call(session, request, _counted(read, len(part)))
            except LedgerError as error:
                if isinstance(error, InvalidRequestError) and error.status == 413 and len(part) > 1:
                    # Too long for this server, which did nothing of it: halve, and remember.
                    session.batch_max = longest = len(part) // 2
                    continue
                raise _placed(error, begin, results) from None
        return results

    def _read(
        self,
        read: Reader[T],
        *segments: str,
        names: str = "",
        at_least: int | None = None,
        **query: str | int | None,
    ) -> Call[T]:
        if at_least is None and self.session.reads_own_writes and self.session.position:
            at_least = self.session.position
        where = path(*segments, **query, at_least=at_least)
        return call(self.session, Request(method="GET", path=where, names=names), read)


def _barrier(linearizable: bool) -> dict[str, str]:
    return {"consistency": "linearizable"} if linearizable else {}


def _counted(read: Reader[list[Result]], count: int) -> Reader[list[Result]]:
    """Read outcomes, and see that there is one for each command."""

    def read_counted(body: bytes, media_type: str) -> list[Result]:
        results = read(body, media_type)
        if len(results) != count:
            raise msgspec.ValidationError(f"{len(results)} outcomes for {count} commands")
        return results

    return read_counted


def _placed(error: LedgerError, begin: int, answered: Sequence[ItemResult | RowResult]) -> LedgerError:
    """Say where in the caller's own array an error of one part is."""
    if isinstance(error, InvalidRequestError) and error.field is not None and begin:
        field = _ARRAY_PLACE.sub(lambda found: f"$[{int(found[1]) + begin}]", error.field)
        error = InvalidRequestError(error.reason, field=field, status=error.status)
    error.answered = tuple(answered)
    return error
