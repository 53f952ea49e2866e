"""The shared store in the journal's etcd, under a prefix of its own.

    <prefix>shared/reports/<region>     with the controller's lease
    <prefix>shared/states/<region>
    <prefix>shared/orders/<kind>/<target>
    <prefix>shared/leader               with the lease of the controller that leads
    <prefix>shared/books
    <prefix>timeline/<id of the event>

A round is one transaction: it puts the report and reads all that is shared. A controller has one lease, which it renews
in its rounds: one that hangs loses its report and the lead as one that died. Every write compares what it writes over,
so an attempt that is repeated at another member, or arrives late, changes nothing. Reads and writes go through a
majority, so a controller that is cut off gets no answer, and not an old one.
"""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import structlog
from msgspec.structs import replace

from fivenines.control.budget import Books
from fivenines.control.desired import Order
from fivenines.control.observed import MemberSeen, RegionState, Report
from fivenines.control.store import Shared, StoreRefusedError, StoreUnreachableError
from fivenines.control.timeline import EVENTS_KEPT, Event
from fivenines.journal import JournalError
from fivenines.journal.etcd import EtcdJournalSettings, Outside
from fivenines.journal.etcd import rpc_pb2 as rpc
from fivenines.journal.etcd.client import CompactedError, EtcdClient, NoSpaceError, RefusedError
from fivenines.journal.etcd.cluster import add_member, list_members, remove_member
from fivenines.journal.etcd.layout import end_of
from fivenines.journal.etcd.leases import grant_lease, is_lease_gone, renew_lease, revoke_lease
from fivenines.journal.etcd.outside import OUTSIDE

__all__ = ["PREFIX", "EtcdStore"]

log = structlog.get_logger(__name__)

T = TypeVar("T")

PREFIX = "/fivenines/control/"
_TRIM_EVERY = 100
_COMPACT_EVERY_S = 120.0


class EtcdStore:
    """A `Store`, on the event loop that it is made on.

    Args:
        settings: where the journal's etcd is, the nearest member first; its prefix is not used.
        here: the region whose controller this is; empty for one who only looks and gives orders.
        peer_urls: by region, where its member is reached by the others; for adding one, and for knowing one that has
            not started. Left out: members are known by their name, which is that of their region.
        prefix: what all keys begin with.
        lease_s: how long the report and the lead outlive a controller.
        timeout_s: how long an answer may take: longer than an election in etcd takes as a rule, and short enough for a
            controller that is cut off to know it soon.
    """

    def __init__(
        self,
        settings: EtcdJournalSettings,
        *,
        here: str = "",
        peer_urls: Mapping[str, str] | None = None,
        prefix: str = PREFIX,
        lease_s: int = 2,
        timeout_s: float = 1.5,
        outside: Outside = OUTSIDE,
    ) -> None:
        self._client = EtcdClient(settings, outside)
        self._here = here
        self._peer_urls = dict(peer_urls or {})
        self._lease_s, self._timeout_s = lease_s, timeout_s
        self._shared = f"{prefix}shared/".encode()
        self._events = f"{prefix}timeline/".encode()
        self._lease = 0
        self._renewed_at = 0.0
        self._report_revision = 0
        self._appended = 0
        self._compacted_at: float | None = None
        self._compact_next = 0

    # ---- what all share

    async def exchange(self, report: Report) -> Shared:
        """Publish a report and return what all share. Raises `StoreError`."""
        assert self._here, "who only looks has no report"
        await self._keep_lease()
        value = msgspec.json.encode(replace(report, age_s=0.0))
        key = self._report_key
        for _ in range(4):
            put = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value, lease=self._lease))
            request = rpc.TxnRequest(
                compare=[_is_at(key, self._report_revision)],
                success=[put, self._range_all()],
                failure=[self._range_all()],
            )
            try:
                answer = await self._txn(request)
            except StoreRefusedError as error:
                if isinstance(error.__cause__, RefusedError) and is_lease_gone(error.__cause__):
                    self._lease = 0
                    await self._keep_lease()
                    continue
                raise
            found = answer.responses[-1].response_range
            if answer.succeeded:
                self._report_revision = answer.header.revision
                break
            # It is not as we left it: an earlier attempt came through, the lease ended, or we are a new process.
            own = next((kv for kv in found.kvs if kv.key == key), None)
            self._report_revision = own.mod_revision if own is not None else 0
        else:
            raise StoreUnreachableError("the report could not be published")
        shared = self._parse(found)
        if shared.is_leader:
            await self._compact(shared.revision)
        return shared

    async def read_all(self) -> Shared:
        """Return what all share. Raises `StoreError`."""
        answer = await self._txn(rpc.TxnRequest(success=[self._range_all()]))
        return self._parse(answer.responses[0].response_range)

    async def put_state(self, state: RegionState, seen: Mapping[str, RegionState]) -> bool:
        """Write a region's state if all are as they were seen. Raises `StoreError`."""
        key = self._key("states", state.name)
        value = msgspec.json.encode(replace(state, revision=0, age_s=0.0))
        names = sorted({*seen, state.name})
        revisions = {name: seen[name].revision if name in seen else 0 for name in names}
        request = rpc.TxnRequest(
            compare=[_is_at(self._key("states", name), revision) for name, revision in revisions.items()],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
        )
        answer = await self._txn(request)
        if answer.succeeded:
            return True
        # An earlier attempt of ours may be what changed it: it wrote the very same, with the same time.
        return any(kv.value == value for kv in answer.responses[0].response_range.kvs)

    async def put_order(self, order: Order) -> None:
        """Give an order. Raises `StoreError`."""
        key = self._key("orders", order.kind, order.target)
        await self._txn(
            rpc.TxnRequest(
                success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=msgspec.json.encode(order)))]
            )
        )

    async def delete_order(self, kind: str, target: str) -> bool:
        """Take an order back; whether there was one. Raises `StoreError`."""
        key = self._key("orders", kind, target)
        was_there = any(order.kind == kind and order.target == target for order in (await self.read_all()).orders)
        gone = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
        await self._txn(rpc.TxnRequest(success=[gone]))
        return was_there

    async def put_books(self, books: Books, seen_revision: int) -> bool:
        """Write the books if nobody else did since. Raises `StoreError`."""
        key, value = self._key("books"), msgspec.json.encode(books)
        request = rpc.TxnRequest(
            compare=[_is_at(key, seen_revision)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=value))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
        )
        answer = await self._txn(request)
        # As above: an earlier attempt of ours may be what changed it.
        return answer.succeeded or any(kv.value == value for kv in answer.responses[0].response_range.kvs)

    # ---- the lead

    async def campaign(self) -> bool:
        """Try to lead; whether we do. Raises `StoreError`."""
        assert self._here, "who only looks cannot lead"
        await self._keep_lease()
        key = self._key("leader")
        request = rpc.TxnRequest(
            compare=[rpc.Compare(target=rpc.Compare.CREATE, key=key, create_revision=0)],
            success=[rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=self._here.encode(), lease=self._lease))],
            failure=[rpc.RequestOp(request_range=rpc.RangeRequest(key=key))],
        )
        answer = await self._txn(request)
        return answer.succeeded or any(
            kv.lease == self._lease for kv in answer.responses[0].response_range.kvs if self._lease
        )

    async def resign(self) -> None:
        """Lead no more, and take the report back. Raises `StoreError`."""
        lease, self._lease, self._report_revision = self._lease, 0, 0
        if lease:
            await self._ask(revoke_lease(self._client, lease, self._timeout_s))

    # ---- the timeline

    async def append(self, events: Sequence[Event]) -> None:
        """Add to the timeline. Raises `StoreError`."""
        puts = [
            rpc.RequestOp(
                request_put=rpc.PutRequest(key=self._events + event.id.encode(), value=msgspec.json.encode(event))
            )
            for event in events
        ]
        for begin in range(0, len(puts), _TRIM_EVERY):
            await self._txn(rpc.TxnRequest(success=puts[begin : begin + _TRIM_EVERY]))
        before, self._appended = self._appended, self._appended + len(events)
        if before == 0 or before // _TRIM_EVERY != self._appended // _TRIM_EVERY:
            await self._trim()

    async def timeline(self, limit: int = 100) -> list[Event]:
        """Return the newest events. Raises `StoreError`."""
        newest = rpc.RangeRequest(
            key=self._events, range_end=end_of(self._events), limit=limit, sort_order=rpc.RangeRequest.DESCEND
        )
        answer = await self._txn(rpc.TxnRequest(success=[rpc.RequestOp(request_range=newest)]))
        kvs = answer.responses[0].response_range.kvs
        return [msgspec.json.decode(kv.value, type=Event) for kv in reversed(kvs)]

    async def _trim(self) -> None:
        oldest = await self._oldest(1)
        excess = oldest.count - EVENTS_KEPT
        if excess > 0:
            found = await self._oldest(excess + 1)
            end = found.kvs[-1].key
            gone = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=self._events, range_end=end))
            await self._txn(rpc.TxnRequest(success=[gone]))

    async def _oldest(self, limit: int) -> rpc.RangeResponse:
        first = rpc.RangeRequest(key=self._events, range_end=end_of(self._events), limit=limit, keys_only=True)
        answer = await self._txn(rpc.TxnRequest(success=[rpc.RequestOp(request_range=first)]))
        return answer.responses[0].response_range

    # ---- the journal's members

    async def members(self) -> tuple[MemberSeen, ...]:
        """Return the members of the journal's etcd. Raises `StoreError`."""
        listed = await self._ask(list_members(self._client, self._timeout_s))
        regions = {url: region for region, url in self._peer_urls.items()}
        return tuple(
            MemberSeen(
                id=member.id,
                name=member.name,
                region=next((regions[url] for url in member.peer_urls if url in regions), member.name),
                is_reachable=member.is_reachable,
                is_leader=member.is_leader,
                is_learner=member.is_learner,
            )
            for member in listed
        )

    async def remove_member(self, id: int) -> None:
        """Take a member out, if we lead. Raises `StoreError`."""
        await self._check_lead()
        await self._ask(remove_member(self._client, id, self._timeout_s))

    async def add_member(self, region: str) -> None:
        """Let a new member of a region in, if we lead. Raises `StoreError`."""
        await self._check_lead()
        if region not in self._peer_urls:
            raise StoreRefusedError(f"it is not known where a member of {region} is reached by the others")
        await self._ask(add_member(self._client, [self._peer_urls[region]], self._timeout_s))

    async def close(self) -> None:
        """Close all connections. The report and the lead go when the lease ends; `resign` before for at once."""
        await self._client.close()

    # ---- inside

    @property
    def _report_key(self) -> bytes:
        return self._key("reports", self._here)

    def _key(self, *parts: str) -> bytes:
        return self._shared + "/".join(parts).encode()

    def _range_all(self) -> rpc.RequestOp:
        return rpc.RequestOp(request_range=rpc.RangeRequest(key=self._shared, range_end=end_of(self._shared)))

    def _parse(self, found: rpc.RangeResponse) -> Shared:
        reports: dict[str, Report] = {}
        states: dict[str, RegionState] = {}
        orders: list[Order] = []
        leader, is_leader, books, books_revision = "", False, Books(), 0
        for kv in found.kvs:
            kind, _, name = kv.key.removeprefix(self._shared).decode(errors="replace").partition("/")
            try:
                match kind:
                    case "reports":
                        reports[name] = msgspec.json.decode(kv.value, type=Report)
                    case "states":
                        state = msgspec.json.decode(kv.value, type=RegionState)
                        states[name] = replace(state, revision=kv.mod_revision)
                    case "orders":
                        orders.append(msgspec.json.decode(kv.value, type=Order))
                    case "leader":
                        leader = kv.value.decode(errors="replace")
                        is_leader = self._lease != 0 and kv.lease == self._lease
                    case "books":
                        books, books_revision = msgspec.json.decode(kv.value, type=Books), kv.mod_revision
            except msgspec.MsgspecError as error:
                # Of another version of ours, it may be; what cannot be read is as if it were not there.
                log.warning("control.unreadable", key=kv.key.decode(errors="replace"), reason=str(error))
        return Shared(
            reports=reports,
            states=states,
            orders=tuple(orders),
            leader=leader,
            is_leader=is_leader,
            books=books,
            books_revision=books_revision,
            revision=found.header.revision,
        )

    async def _keep_lease(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._lease and now - self._renewed_at < self._lease_s / 4:
            return
        if self._lease and await self._ask(renew_lease(self._client, self._lease, self._timeout_s)):
            self._renewed_at = now
            return
        self._lease = await self._ask(grant_lease(self._client, self._lease_s, self._timeout_s))
        self._renewed_at = now

    async def _check_lead(self) -> None:
        if not (await self.read_all()).is_leader:
            raise StoreRefusedError("this controller does not lead")

    async def _compact(self, revision: int) -> None:
        """Let etcd forget what reports said before, where the journal does not do so by itself, as nothing is written.

        Only what is older than `_COMPACT_EVERY_S`: nobody reads or watches from there on.
        """
        now = asyncio.get_running_loop().time()
        if self._compacted_at is None:
            self._compacted_at, self._compact_next = now, revision
        elif now - self._compacted_at >= _COMPACT_EVERY_S:
            before, self._compacted_at, self._compact_next = self._compact_next, now, revision
            await self._ask(self._client.compact(before, self._timeout_s))

    async def _txn(self, request: rpc.TxnRequest) -> rpc.TxnResponse:
        return (await self._ask(self._client.txn(request, self._timeout_s))).txn

    async def _ask(self, call: Coroutine[Any, Any, T]) -> T:
        try:
            return await call
        except NoSpaceError as error:
            raise StoreRefusedError(str(error)) from error
        except (RefusedError, CompactedError) as error:
            raise StoreRefusedError(str(error)) from error
        except JournalError as error:
            raise StoreUnreachableError(str(error)) from error


def _is_at(key: bytes, revision: int) -> rpc.Compare:
    return rpc.Compare(target=rpc.Compare.MOD, key=key, mod_revision=revision)
