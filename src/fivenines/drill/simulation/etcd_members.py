"""Three members of an etcd that is simulated: what they promise together, and how each of them fails.

Raft itself is not played: its outcome is. A leader takes proposals in an order and commits them once a majority is
connected; a member that is connected applies what is committed, a while later. When the leader is lost, a majority
elects another after an election timeout, and of what was proposed and not yet committed a part comes through, in order,
and the rest is lost, without a word to anybody: proposers wait for ever, as they do with a real one.

A member may be down, hang (its process stopped: what was sent to it is carried out when it goes on), or be cut off from
the others. A member that starts again may first have applied less than before. Watches are told by the member that they
were asked of, as far as it has come; who begins behind a compaction is turned away.

Faults come from outside (`run`); chance within comes from the seed.
"""

import asyncio
from collections.abc import Callable
from random import Random
from typing import NamedTuple, Protocol

import grpc

from fivenines.drill.simulation.etcd_store import Change, Store, StoreError, View, covers, is_reading
from fivenines.journal.etcd import rpc_pb2 as rpc

__all__ = ["CLUSTER_ID", "Asked", "Failure", "Member", "Request", "SimulatedEtcd", "Watcher"]

CLUSTER_ID = 0x5_9_5
_COMMIT_S = 0.002
_LAG_S = 0.003
_ELECTION_S = (0.15, 0.4)
_READ_AGAIN_S = 0.3
_FORGOTTEN_MAX = 4
"""Entries that a member may have to apply once more when it starts again."""

Request = rpc.TxnRequest | rpc.CompactionRequest | rpc.StatusRequest
Response = rpc.TxnResponse | rpc.CompactionResponse | rpc.StatusResponse


class Failure(NamedTuple):
    """An error as gRPC tells it."""

    code: grpc.StatusCode
    details: str


DOWN = Failure(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
BROKEN = Failure(grpc.StatusCode.UNAVAILABLE, "Socket closed")
NO_LEADER = Failure(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")


class Asked(Protocol):
    """A request that has reached a member."""

    request: Request

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for the answer any more."""

    def answer(self, found: Response | Failure) -> None:
        """Send the answer on its way."""


class Watcher(Protocol):
    """A watch that a member serves."""

    key: bytes
    end: bytes
    next_revision: int
    is_synced: bool

    def tell(self, response: rpc.WatchResponse) -> None:
        """Send a response on its way, after those before it."""

    def fail(self, failure: Failure) -> None:
        """End it."""


class _Entry(NamedTuple):
    """What was agreed on, and what came of it."""

    asked: Asked
    result: Response | Failure
    view: View


class _Proposal(NamedTuple):
    asked: Asked
    by: "Member"
    is_replicated: bool
    """Whether others may have it: not what a leader took that was cut off already."""


class _Somebody:
    """One who asks and does not wait: a compaction by hand."""

    is_over = True

    def __init__(self, request: Request) -> None:
        self.request = request

    def answer(self, found: Response | Failure) -> None:
        """Nobody listens."""


class SimulatedEtcd:
    """The members together."""

    def __init__(self, random: Random, count: int = 3) -> None:
        self.random = random
        self.store = Store()
        self.log: list[_Entry] = []
        self.members = [Member(self, number) for number in range(count)]
        self.leader: Member | None = self.members[0]
        self.term = 1
        self.elections = 0
        self.compactions = 0
        self.doubles = 0
        """Writes that were carried out although the same one had been before."""
        self.is_restless = False
        """Whether others write and compact while somebody reads who cannot be interrupted."""
        self.listener: Callable[[list[Change]], None] = lambda _changes: None
        """Is told what each revision changed."""
        self._pending: list[_Proposal] = []
        self._inherited: list[_Proposal] = []
        self._written: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None

    # ---- agreement -----------------------------------------------------------------------------------------------

    @property
    def has_majority(self) -> bool:
        """Whether more than half of the members reach each other."""
        return 2 * sum(member.is_connected for member in self.members) > len(self.members)

    def is_abreast(self, member: "Member") -> bool:
        """Whether a member can make sure that it misses nothing that was acknowledged."""
        leads = self.leader is not None and self.leader.is_connected and self.has_majority
        return leads and member.is_connected and member.has_leader

    def propose(self, asked: Asked, by: "Member") -> None:
        """Send a request to the leader that a member knows."""
        if by is self.leader:
            self._take(asked, by, self.term)
        else:
            later(self.random.expovariate(1 / _COMMIT_S), self._take, asked, by, self.term)

    def _take(self, asked: Asked, by: "Member", term: int) -> None:
        leader = self.leader
        if term != self.term or leader is None or not leader.is_serving:
            return  # lost with the leader that it was sent to
        if by is not leader and not (by.is_connected and leader.is_connected):
            return
        self._pending.append(_Proposal(asked, by, leader.is_connected))
        later(self.random.expovariate(1 / _COMMIT_S), self._commit_to, len(self._pending), self.term)

    def _commit_to(self, count: int, term: int) -> None:
        """Commit what is pending, up to a proposal and all before it."""
        if term == self.term and self.leader is not None and self.leader.is_connected and self.has_majority:
            # Others may have been committed since: then these are fewer, and that is no harm.
            ready, self._pending = self._pending[:count], self._pending[count:]
            for proposal in ready:
                self._commit(proposal.asked, proposal.by)

    def _commit(self, asked: Asked, by: "Member | None") -> None:
        request = asked.request
        assert not isinstance(request, rpc.StatusRequest)
        before = self.store.view.revision
        result: Response | Failure
        try:
            result = self.store.carry_out(request)
            result.header.cluster_id = CLUSTER_ID
        except StoreError as error:
            result = Failure(grpc.StatusCode.OUT_OF_RANGE, str(error))
        self.log.append(_Entry(asked, result, self.store.view))
        if isinstance(request, rpc.CompactionRequest):
            self.compactions += isinstance(result, rpc.CompactionResponse)
        elif id(request) in self._written:
            self.doubles += 1
        else:
            self._written.add(id(request))
        if self.store.view.revision > before:
            self.listener(self.store.changes(self.store.view.revision))
        index = len(self.log)
        if by is not None:
            by.when_applied(index, lambda: asked.answer(result))
        for member in self.members:
            if member is self.leader:
                member.catch_up(index)
            else:
                later(self.random.expovariate(1 / member.lag_s), member.catch_up, index)

    # ---- leaders -------------------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Do what follows from members having come, gone, or lost each other."""
        leads = self.leader is not None and self.leader.is_connected and self.has_majority
        if leads:
            later(self.random.expovariate(1 / _COMMIT_S), self._commit_to, len(self._pending), self.term)
        elif self._timer is None:
            self._timer = later(self.random.uniform(*_ELECTION_S), self._elect_if_needed)
        for member in self.members:
            if member.is_connected:
                if leads and not member.has_leader:
                    later(self.random.expovariate(1 / _LAG_S), member.find_leader)
                later(self.random.expovariate(1 / member.lag_s), member.catch_up, len(self.log))
            elif member.has_leader:
                later(self.random.uniform(*_ELECTION_S), member.miss_leader)

    def depose(self) -> None:
        """Have the leader lead no more: of what it has not committed, a part may come through with its successor."""
        count = next((n for n, proposal in enumerate(self._pending) if not proposal.is_replicated), len(self._pending))
        self._inherited += self._pending[: self.random.randint(0, count)]
        self._pending = []
        self.leader = None
        self.term += 1
        for member in self.members:
            later(self.random.uniform(0, _ELECTION_S[0]), member.miss_leader)
        if self._timer is None:
            self._timer = later(self.random.uniform(*_ELECTION_S), self._elect_if_needed)

    def _elect_if_needed(self) -> None:
        self._timer = None
        if self.leader is not None and self.leader.is_connected and self.has_majority:
            return
        if self.leader is not None:
            self.depose()
            return
        if not self.has_majority:
            return  # whoever comes makes us look around
        self.elections += 1
        self.term += 1
        self.leader = self.random.choice([member for member in self.members if member.is_connected])
        self.leader.catch_up(len(self.log))
        inherited, self._inherited = self._inherited, []
        for proposal in inherited:
            self._commit(proposal.asked, proposal.by)
        for member in self.members:
            if member.is_connected:
                later(self.random.expovariate(1 / _LAG_S), member.find_leader)

    # ---- what others do ------------------------------------------------------------------------------------------

    def compact(self, revision: int) -> None:
        """Compact, as somebody may at any time."""
        if self.leader is not None and self.leader.is_connected and self.has_majority:
            self._commit(_Somebody(rpc.CompactionRequest(revision=revision)), None)

    def go_on(self) -> None:
        """Have things happen between two reads of somebody for whom no time passes meanwhile."""
        if self.is_restless and self.random.random() < 0.3:
            self._commit_to(len(self._pending), self.term)
            if self.random.random() < 0.1:
                self.compact(self.store.view.revision)


class Member:
    """One member."""

    def __init__(self, etcd: SimulatedEtcd, number: int) -> None:
        self.number = number
        self.is_up = True
        self.is_hung = False
        self.is_cut_off = False
        self.has_leader = True
        """As far as it knows."""
        self.lag_s = _LAG_S
        self.watchers: dict[Watcher, None] = {}
        self.asked: dict[Asked, None] = {}
        """What it has not answered yet."""
        self._etcd = etcd
        self._applied = 0
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._wanting_leader: list[Callable[[], None]] = []
        self._held: list[Callable[[], None]] = []

    @property
    def is_serving(self) -> bool:
        """Whether it answers."""
        return self.is_up and not self.is_hung

    @property
    def is_connected(self) -> bool:
        """Whether it and the others reach each other."""
        return self.is_serving and not self.is_cut_off

    @property
    def view(self) -> View:
        """How far it has come."""
        return self._etcd.log[self._applied - 1].view if self._applied else View(1, -1)

    # ---- applying ------------------------------------------------------------------------------------------------

    def catch_up(self, index: int) -> None:
        """Apply what is committed, up to an index, if it can be had."""
        if not self.is_connected or index <= self._applied:
            return
        self._applied = index
        revision = self.view.revision
        for watcher in self.watchers:
            if watcher.is_synced:
                self._tell(watcher, revision)
        ready = [do for wanted, do in self._waiting if wanted <= index]
        self._waiting = [(wanted, do) for wanted, do in self._waiting if wanted > index]
        for do in ready:
            do()

    def when_applied(self, index: int, do: Callable[[], None]) -> None:
        """Do something once it has come as far as an index, unless it crashes before."""
        if self._applied >= index:
            do()
        else:
            self._waiting.append((index, do))

    # ---- serving -------------------------------------------------------------------------------------------------

    def take(self, asked: Asked) -> None:
        """Begin to answer a request."""
        if not self.is_up:
            asked.answer(DOWN)
            return
        self.asked[asked] = None
        self._serve(lambda: self._begin(asked))

    def watch(self, watcher: Watcher) -> None:
        """Begin to serve a watch."""
        if not self.is_up:
            watcher.fail(DOWN)
            return
        self.watchers[watcher] = None
        self._serve(lambda: self._begin_watch(watcher))

    def show_progress(self, watcher: Watcher, tell: Callable[[rpc.WatchResponse], None]) -> None:
        """Give a sign of life. It may overtake what the watch has yet to tell, as it does in a real one."""
        del watcher
        self._serve(lambda: tell(rpc.WatchResponse(header=self._header(), watch_id=-1)))

    def read_now(self, request: rpc.TxnRequest) -> rpc.TxnResponse | Failure | None:
        """Answer a transaction that only reads, in no time; None if that is not to be had."""
        if not self.is_serving or not self._etcd.is_abreast(self):
            return None
        self.catch_up(len(self._etcd.log))
        return self._read(request)

    def _serve(self, do: Callable[[], None]) -> None:
        if self.is_hung:
            self._held.append(do)
        else:
            do()

    def _begin(self, asked: Asked) -> None:
        request = asked.request
        if isinstance(request, rpc.StatusRequest):
            asked.answer(self._status())
        elif isinstance(request, rpc.TxnRequest) and is_reading(request):
            self._with_leader(lambda: self._confirm(asked))
        else:
            self._with_leader(lambda: self._etcd.propose(asked, self))

    def _with_leader(self, do: Callable[[], None]) -> None:
        if self.has_leader:
            do()
        else:
            self._wanting_leader.append(do)

    def _confirm(self, asked: Asked) -> None:
        """Read once everything is applied that was acknowledged when it was asked."""
        later(self._etcd.random.expovariate(1 / _COMMIT_S), self._read_if_abreast, asked)

    def _read_if_abreast(self, asked: Asked) -> None:
        if asked.is_over or asked not in self.asked:
            return
        if not self._etcd.is_abreast(self):
            later(_READ_AGAIN_S, self._read_if_abreast, asked)
            return
        request = asked.request
        assert isinstance(request, rpc.TxnRequest)
        self.when_applied(len(self._etcd.log), lambda: asked.answer(self._read(request)))

    def _read(self, request: rpc.TxnRequest) -> rpc.TxnResponse | Failure:
        try:
            answer = self._etcd.store.read(request, self.view)
        except StoreError as error:
            return Failure(grpc.StatusCode.OUT_OF_RANGE, str(error))
        answer.header.cluster_id = CLUSTER_ID
        return answer

    def _status(self) -> rpc.StatusResponse:
        leader = self._etcd.leader if self.has_leader else None
        return rpc.StatusResponse(
            header=self._header(),
            version="3.4.23",
            db_size=1,
            db_size_in_use=1,
            leader=leader.number + 1 if leader else 0,
            errors=[] if leader else ["etcdserver: no leader"],
        )

    def _header(self) -> rpc.ResponseHeader:
        return rpc.ResponseHeader(
            cluster_id=CLUSTER_ID, member_id=self.number + 1, revision=self.view.revision, raft_term=self._etcd.term
        )

    # ---- watching ------------------------------------------------------------------------------------------------

    def _begin_watch(self, watcher: Watcher) -> None:
        if not self.has_leader:
            self.watchers.pop(watcher, None)
            watcher.fail(NO_LEADER)
            return
        watcher.tell(rpc.WatchResponse(header=self._header(), created=True))
        # Others come in between: a watch from the past is brought abreast in the background.
        later(self._etcd.random.expovariate(1 / _LAG_S), self._sync, watcher)

    def _sync(self, watcher: Watcher) -> None:
        if watcher not in self.watchers:
            return
        if not self.is_serving:
            later(_READ_AGAIN_S, self._sync, watcher)
            return
        view, start = self.view, watcher.next_revision
        try:
            found = list(self._etcd.store.watched(view, watcher.key, watcher.end, start))
        except StoreError:
            del self.watchers[watcher]
            watcher.tell(
                rpc.WatchResponse(header=self._header(), canceled=True, compact_revision=max(1, view.compacted))
            )
            return
        watcher.is_synced = True
        watcher.next_revision = max(start, view.revision + 1)
        self._send(watcher, found)

    def _tell(self, watcher: Watcher, revision: int) -> None:
        store = self._etcd.store
        found = [
            change
            for number in range(watcher.next_revision, revision + 1)
            for change in store.changes(number)
            if covers(watcher.key, watcher.end, change.key)
        ]
        watcher.next_revision = max(watcher.next_revision, revision + 1)
        self._send(watcher, found)

    def _send(self, watcher: Watcher, found: list[Change]) -> None:
        random = self._etcd.random
        while found:
            # A long response comes in fragments, and a revision may be in two of them.
            count = random.randint(1, len(found)) if len(found) > 1 and random.random() < 0.2 else len(found)
            part, found = found[:count], found[count:]
            events = [change.event for change in part]
            watcher.tell(rpc.WatchResponse(header=self._header(), events=events, fragment=bool(found)))

    # ---- what becomes of it --------------------------------------------------------------------------------------

    def crash(self) -> None:
        """Be gone, with everything but what is on the disk."""
        self.is_up, self.is_hung = False, False
        asked, self.asked = self.asked, {}
        watchers, self.watchers = self.watchers, {}
        self._waiting, self._wanting_leader, self._held = [], [], []
        if self._etcd.leader is self:
            self._etcd.depose()
        for one in asked:
            one.answer(BROKEN)
        for watcher in watchers:
            watcher.fail(BROKEN)
        self._etcd.look_around()

    def start(self) -> None:
        """Be there again, a few entries behind, if it is not."""
        if self.is_up:
            return
        self.is_up = True
        self.has_leader = False
        self._applied = max(0, self._applied - self._etcd.random.randint(0, _FORGOTTEN_MAX))
        self._etcd.look_around()

    def hang(self) -> None:
        """Do nothing from now on."""
        self.is_hung = True
        self._etcd.look_around()

    def go_on(self) -> None:
        """Do what was left undone."""
        self.is_hung = False
        held, self._held = self._held, []
        for do in held:
            do()
        self._etcd.look_around()

    def cut_off(self) -> None:
        """Lose the way to the other members."""
        self.is_cut_off = True
        self._etcd.look_around()

    def rejoin(self) -> None:
        """Find the way to the other members again."""
        self.is_cut_off = False
        self._etcd.look_around()

    def miss_leader(self) -> None:
        """Notice that nothing was heard of the leader, if that is still so."""
        if self.has_leader and (self._etcd.leader is None or not self.is_connected):
            self.has_leader = False
            # Those who watch are told so, unless there is one soon.
            later(self._etcd.random.uniform(*_ELECTION_S), self._end_watches)

    def find_leader(self) -> None:
        """Know the leader, and do what had to wait for one."""
        if self._etcd.leader is None or not self.is_connected or self.has_leader:
            return
        self.has_leader = True
        wanting, self._wanting_leader = self._wanting_leader, []
        for do in wanting:
            do()

    def _end_watches(self) -> None:
        if self.has_leader or not self.is_serving:
            return
        watchers, self.watchers = self.watchers, {}
        for watcher in watchers:
            watcher.fail(NO_LEADER)


def later(delay_s: float, do: Callable[..., None], *args: object) -> asyncio.TimerHandle:
    """Do something after a delay."""
    return asyncio.get_running_loop().call_later(delay_s, do, *args)
