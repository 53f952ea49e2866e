"""The simulated etcd against a real one: the same requests, the same answers, the same history."""

from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fivenines.drill.members import etcd_program, make_cluster, running
from fivenines.drill.simulation.etcd_store import Store, StoreError
from fivenines.journal.etcd import rpc_pb2 as rpc

KEYS = [b"a", b"b", b"ba", b"c", b"d"]
ENDS = [b"", b"\0", b"b", b"bb", b"z"]


class RealEtcd:
    """One member, and how far its revisions are ahead of those of a store that was just made."""

    def __init__(self, endpoint: str) -> None:
        self._channel = grpc.insecure_channel(endpoint)
        kv = "/etcdserverpb.KV/"
        self._txn = self._unary(kv + "Txn", rpc.TxnRequest, rpc.TxnResponse)
        self._compact = self._unary(kv + "Compact", rpc.CompactionRequest, rpc.CompactionResponse)
        self._watch = self._channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=rpc.WatchRequest.SerializeToString,
            response_deserializer=rpc.WatchResponse.FromString,
        )

    def _unary(self, path: str, request: Any, response: Any) -> Any:
        return self._channel.unary_unary(
            path, request_serializer=request.SerializeToString, response_deserializer=response.FromString
        )

    def close(self) -> None:
        self._channel.close()

    def begin_anew(self) -> int:
        """Delete everything, compact it away, and return the revision."""
        everything = rpc.DeleteRangeRequest(key=b"\0", range_end=b"\0")
        touch = rpc.PutRequest(key=b"touched", value=b"")
        self._txn(rpc.TxnRequest(success=[rpc.RequestOp(request_put=touch)]))
        answer = self._txn(rpc.TxnRequest(success=[rpc.RequestOp(request_delete_range=everything)]))
        self._compact(rpc.CompactionRequest(revision=answer.header.revision, physical=True))
        return int(answer.header.revision)

    def carry_out(self, request: rpc.TxnRequest | rpc.CompactionRequest) -> Any:
        try:
            is_compaction = isinstance(request, rpc.CompactionRequest)
            return self._compact(request) if is_compaction else self._txn(request)
        except grpc.RpcError as error:
            return error.details()

    def watched(self, key: bytes, end: bytes, start: int, newest: int) -> list[Any] | str:
        """Return what a watch tells of a range that has the key `z` in it, which was put at `newest`."""
        create = rpc.WatchCreateRequest(key=key, range_end=end, start_revision=start, fragment=True)
        call = self._watch(iter([rpc.WatchRequest(create_request=create)]))
        events: list[Any] = []
        try:
            for response in call:
                if response.canceled:
                    assert response.compact_revision
                    return "compacted"
                events += response.events
                if events and events[-1].kv.mod_revision == newest:
                    return events
        finally:
            call.cancel()
        raise AssertionError("the watch ended")


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealEtcd]:
    if not etcd_program():
        pytest.skip("etcd is not installed")
    with running(make_cluster(tmp_path_factory.mktemp("etcd"), members=1)) as cluster:
        real = RealEtcd(cluster.endpoints[0])
        yield real
        real.close()


revisions = st.integers(-2, 14)
"""From the start of the sequence on."""


@st.composite
def compares(draw: st.DrawFn) -> rpc.Compare:
    results = (rpc.Compare.EQUAL, rpc.Compare.GREATER, rpc.Compare.LESS, rpc.Compare.NOT_EQUAL)
    compare = rpc.Compare(key=draw(st.sampled_from(KEYS)), result=draw(st.sampled_from(results)))
    match draw(st.sampled_from(["value", "create", "mod", "version"])):
        case "value":
            compare.target, compare.value = rpc.Compare.VALUE, draw(st.sampled_from([b"", b"1", b"2"]))
        case "create":
            compare.target, compare.create_revision = rpc.Compare.CREATE, draw(st.sampled_from([0, 2, 3, 5]))
        case "mod":
            compare.target, compare.mod_revision = rpc.Compare.MOD, draw(st.sampled_from([0, 2, 3, 5]))
        case _:
            compare.target, compare.version = rpc.Compare.VERSION, draw(st.integers(0, 3))
    return compare


@st.composite
def operations(draw: st.DrawFn) -> list[rpc.RequestOp]:
    found: list[rpc.RequestOp] = []
    # etcd refuses to put a key twice in a transaction, and to put what it deletes there.
    puts = draw(st.lists(st.sampled_from(KEYS), max_size=3, unique=True))
    values = st.sampled_from([b"", b"1", b"2"])
    found += [rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=draw(values))) for key in puts]
    if not puts and draw(st.booleans()):
        gone = rpc.DeleteRangeRequest(key=draw(st.sampled_from(KEYS)), range_end=draw(st.sampled_from(ENDS)))
        found.append(rpc.RequestOp(request_delete_range=gone))
    for _ in range(draw(st.integers(0, 2))):
        asked = rpc.RangeRequest(
            key=draw(st.sampled_from(KEYS)),
            range_end=draw(st.sampled_from(ENDS)),
            limit=draw(st.sampled_from([0, 0, 1, 2])),
            revision=max(0, draw(revisions)),
            keys_only=draw(st.booleans()),
        )
        found.insert(draw(st.integers(0, len(found))), rpc.RequestOp(request_range=asked))
    return found


@st.composite
def requests(draw: st.DrawFn) -> rpc.TxnRequest | rpc.CompactionRequest:
    if draw(st.integers(0, 5)) == 0:
        return rpc.CompactionRequest(revision=max(1, draw(revisions)))
    return rpc.TxnRequest(
        compare=draw(st.lists(compares(), max_size=2)), success=draw(operations()), failure=draw(operations())
    )


def move(message: Any, by: int) -> Any:
    """Return a request with all revisions in it moved, so that it means the same to a store that began later."""
    moved = type(message)()
    moved.CopyFrom(message)
    if isinstance(moved, rpc.CompactionRequest):
        moved.revision += by
        return moved
    for compare in moved.compare:
        for name in ("create_revision", "mod_revision"):
            if compare.HasField(name) and getattr(compare, name):
                setattr(compare, name, getattr(compare, name) + by)
    for operation in (*moved.success, *moved.failure):
        if operation.HasField("request_range") and operation.request_range.revision:
            operation.request_range.revision += by
    return moved


def plain(answer: Any, by: int = 0) -> Any:
    """Return an answer in which revisions are counted from where the store began, and without who gave it."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, rpc.CompactionResponse):
        return answer.header.revision - by
    parts: list[Any] = [answer.succeeded, answer.header.revision - by]
    for response in answer.responses:
        kind = response.WhichOneof("response")
        found = getattr(response, kind)
        parts.append((kind, found.header.revision - by))
        if kind == "response_range":
            parts.append(([plain_kv(kv, by) for kv in found.kvs], found.count, found.more))
        elif kind == "response_delete_range":
            parts.append(found.deleted)
    return parts


def plain_kv(kv: Any, by: int) -> tuple[Any, ...]:
    created = kv.create_revision - by if kv.create_revision else 0
    return kv.key, kv.value, created, kv.mod_revision - by, kv.version


def simulated(store: Store, request: Any) -> Any:
    try:
        return store.carry_out(request)
    except StoreError as error:
        return str(error)


def simulated_watch(store: Store, key: bytes, end: bytes, start: int) -> Any:
    try:
        return [(c.event.type, plain_kv(c.event.kv, 0)) for c in store.watched(store.view, key, end, start)]
    except StoreError:
        return "compacted"


@given(st.lists(requests(), max_size=12), st.sampled_from(KEYS), st.integers(2, 10))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_it_answers_as_a_real_one_does(etcd: RealEtcd, sequence: list[Any], key: bytes, start: int) -> None:
    # The simulated one begins at revision 1 as a new etcd does; the real one was used before.
    by = etcd.begin_anew() - 1
    store = Store()
    store.carry_out(rpc.CompactionRequest(revision=1))
    last = rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"z", value=b""))])
    for request in [*sequence, last]:
        real, ours = plain(etcd.carry_out(move(request, by)), by), plain(simulated(store, request))
        assert ours == real, request
    newest = store.view.revision
    told = etcd.watched(key, b"\0", min(start, newest) + by, newest + by)
    wanted = told if isinstance(told, str) else [(event.type, plain_kv(event.kv, by)) for event in told]
    assert simulated_watch(store, key, b"\0", min(start, newest)) == wanted
