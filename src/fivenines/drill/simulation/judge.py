"""The judge: it trusts nobody.

It reads what etcd's members have agreed on, piece by piece as it is committed, with a journal and a ledger of its own:
a list of payloads, a dict of integers and a dict of ids. Whatever nodes hold and tell, this is what they must hold and
may tell; so it is asked at each step: when a node has applied a frame, when a client is answered, when a reader looks.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from fivenines.drill.simulation.clients import Told
from fivenines.drill.simulation.etcd_store import Change
from fivenines.ids import as_text
from fivenines.journal import Frame
from fivenines.journal.etcd.layout import FIRST, LAST, PIECE_HEADER_BYTES
from fivenines.journal.format import DIGEST_NONE, frame_digest
from fivenines.ledger import OpenAccount, Post, Posting, PostOne, State, decode

__all__ = ["Judge", "Seen", "ViolationError"]


class ViolationError(Exception):
    """A promise was broken; the message says which, and by what."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a reader saw on a node."""

    node: str
    wanted: int
    """The position that the read was promised to show, at least."""
    position: int
    balances: dict[str, int]


@dataclass(slots=True)
class Judge:
    """What is true, by position, and who said otherwise."""

    frames_prefix: bytes
    """What the keys of all pieces begin with."""
    payloads: list[bytes] = field(default_factory=list)
    digests: list[bytes] = field(default_factory=lambda: [DIGEST_NONE])
    """Of the frame at each position; the first is that of none."""
    decided: dict[str, tuple[str, int, tuple[tuple[str, str, int], ...]]] = field(default_factory=dict)
    """Outcome, position and content, by id."""
    balances: list[dict[str, int]] = field(default_factory=lambda: [{}])
    """At each position; the first is that of the empty log."""
    told: list[Told] = field(default_factory=list)
    reads: int = 0
    _floors: dict[str, int | None] = field(default_factory=dict)
    _parts: dict[bytes, list[bytes]] = field(default_factory=dict)
    """Of frames that are not whole, by lane."""
    _outcomes: dict[int, bytes] = field(default_factory=dict)

    @property
    def last(self) -> int:
        """The position of the newest frame."""
        return len(self.payloads)

    # ---- what is true --------------------------------------------------------------------------------------------

    def learn(self, changes: Iterable[Change]) -> None:
        """Learn what the members have agreed on. Raises `ViolationError`."""
        for change in changes:
            if not change.key.startswith(self.frames_prefix) or change.version == 0:
                continue
            if change.version > 1:
                raise ViolationError(f"doubled: {change.key.decode()} was written again, at {change.mod_revision}")
            lane, flags = change.key.rpartition(b"/")[0], change.value[3]
            if flags & FIRST:
                self._parts[lane] = []
            self._parts[lane].append(change.value[PIECE_HEADER_BYTES:])
            if flags & LAST:
                self._add(b"".join(self._parts.pop(lane)))

    def _add(self, payload: bytes) -> None:
        """Decide everything in a frame once more, in the plainest way."""
        self.payloads.append(payload)
        self.digests.append(frame_digest(self.last, self.digests[-1], payload))
        balances = dict(self.balances[-1])
        for command in decode(payload).commands:
            match command:
                case OpenAccount(account=account, min_balance=floor):
                    balances.setdefault(account, 0)
                    self._floors.setdefault(account, floor)
                case PostOne():
                    posting = Posting(command.source, command.destination, command.amount)
                    self._decide(balances, command.id, (posting,))
                case Post():
                    self._decide(balances, command.id, command.postings)
        if sum(balances.values()) != 0:
            raise ViolationError(f"the judge's own books do not sum to zero at {self.last}")
        self.balances.append(balances)

    def _decide(self, balances: dict[str, int], id: bytes, postings: Sequence[Posting]) -> None:
        name = as_text(id)
        content = tuple((p.source, p.destination, p.amount) for p in postings)
        if name in self.decided:
            return
        after = dict(balances)
        for source, destination, amount in content:
            if source not in after or destination not in after:
                self.decided[name] = ("account_unknown", self.last, content)
                return
            floor = self._floors[source]
            if floor is not None and after[source] - amount < floor:
                self.decided[name] = ("insufficient_funds", self.last, content)
                return
            after[source] -= amount
            after[destination] += amount
        balances.update(after)
        self.decided[name] = ("posted", self.last, content)

    # ---- what is said --------------------------------------------------------------------------------------------

    def check_applied(self, node: str, frame: Frame, state: State) -> None:
        """Hold a node's frame, and its state after it, against what is true and what others had there."""
        position = frame.position
        if position > self.last:
            raise ViolationError(f"{node} has a frame at {position}, and only {self.last} are committed")
        if frame.digest != self.digests[position] or frame.payload != self.payloads[position - 1]:
            raise ViolationError(f"{node} has another frame at position {position} than was agreed on there")
        if self._outcomes.setdefault(position, state.outcomes_digest) != state.outcomes_digest:
            raise ViolationError(f"replicas differ at position {position}: {node} decided otherwise")
        self.check_state(node, state)

    def check_state(self, node: str, state: State) -> None:
        """Hold a node's balances against the books."""
        if {id: account.balance for id, account in state.accounts.items()} != self.balances[state.position]:
            raise ViolationError(f"{node} has other balances at {state.position} than the log")

    def check_told(self, answer: Told) -> None:
        """Hold what a client was told against what is committed by now."""
        self.told.append(answer)
        if answer.position is None:
            return
        decided = self.decided.get(answer.id)
        if decided is None:
            raise ViolationError(f"lost: {answer.id} was acknowledged as {answer.outcome} and is not in the log")
        outcome, position, content = decided
        asked = tuple((p.source, p.destination, int(p.amount)) for p in answer.postings)
        if (answer.outcome, asked) != (outcome, content):
            raise ViolationError(f"{answer.id}: its client was told {answer.outcome}, the log says {outcome}")
        if answer.position != position:
            raise ViolationError(f"{answer.id}: its client was told position {answer.position}, it is at {position}")

    def check_seen(self, read: Seen) -> None:
        """Hold what a reader saw against the books, and against what it was promised."""
        self.reads += 1
        if read.position < read.wanted:
            raise ViolationError(f"{read.node} showed position {read.position} to a read that asked for {read.wanted}")
        if read.position > self.last or read.balances != self.balances[read.position]:
            raise ViolationError(f"{read.node} showed balances at {read.position} that never were")

    def check_all_told(self) -> None:
        """Hold all answers against the log together, at the end.

        Raises:
            ViolationError: something was done after all, or order was broken.
        """
        uncertain = {answer.id for answer in self.told if answer.outcome != "not_done"}
        for answer in self.told:
            if answer.outcome == "not_done" and answer.id in self.decided and answer.id not in uncertain:
                position = self.decided[answer.id][1]
                raise ViolationError(f"{answer.id} was said not to be done, and was done at {position}")
        _check_order(self.told)


def _check_order(told: Sequence[Told]) -> None:
    """Who asked after another was told comes after it in the log. Only the first asking of an id counts."""
    definite = [answer for answer in told if answer.position is not None]
    first: dict[str, Told] = {}
    for answer in sorted(told, key=lambda answer: answer.asked_s):
        first.setdefault(answer.id, answer)
    by_told = sorted(definite, key=lambda answer: answer.told_s)
    highest, index = 0, 0
    for answer in sorted(definite, key=lambda answer: answer.asked_s):
        while index < len(by_told) and by_told[index].told_s < answer.asked_s:
            highest = max(highest, by_told[index].position or 0)
            index += 1
        if first[answer.id] is answer and (answer.position or 0) < highest:
            raise ViolationError(f"reordered: {answer.id} at {answer.position} was asked after {highest} was told")
