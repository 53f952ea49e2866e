"""An honest ledger and its clients, as small as they can be: whatever they say is true, and a checker must not object.

Clients send, a frame decides some of what was sent, answers arrive or do not: each a step that chance chooses, so that
requests overlap, answers are lost, requests are turned away, retries are found in the journal once more, and nodes lag
behind. What a frame decides is decided by the ledger's own state machine. `World.evidence` is what all witnesses say of
it in the end; a test that lies changes the frames, what was answered, or what a witness said, and nothing else.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, field
from random import Random

from bench.checker import command_of
from fivenines.drill.checker import ArchiveSaid, Effected, Evidence, FeedSaid, NodeSaid, SqlSaid, Told
from fivenines.drill.checker.course import Totals
from fivenines.drill.load.asked import Asked
from fivenines.journal import Frame
from fivenines.journal.format import DIGEST_NONE, frame_digest
from fivenines.ledger import (
    Batch,
    Command,
    Hold,
    OpenAccount,
    Outcome,
    Post,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
    State,
    apply,
    encode,
)

BANK = "bank"
CUSTOMERS = ("customer:0", "customer:1", "customer:2")
PURSE, PURSE_MAX = "purse", 40
TEST = ("test:0", "test:1", "test:2")
TEST_BALANCE = 20
ACCOUNTS = (BANK, *CUSTOMERS, PURSE, *TEST)
CLIENTS = 4

START_US = 1_700_000_000_000_000
DONE = frozenset({"posted", "held", "settled", "released"})


def id_of(number: int) -> bytes:
    """An id of the ledger's time, or a little later."""
    return (START_US // 1_000 + number // 1_000).to_bytes(6, "big") + number.to_bytes(10, "big")


@dataclass
class Ledger:
    """What frames come to, with all that it was on the way."""

    frames: list[Frame] = field(default_factory=list)
    state: State = field(default_factory=State)
    books: list[dict[str, Totals]] = field(default_factory=lambda: [{}])
    """All accounts after each position, from 0 on."""
    chain: list[bytes] = field(default_factory=lambda: [bytes(32)])
    told: list[Told] = field(default_factory=list)
    written: list[Told] = field(default_factory=list)
    """The same in SQL, which tells of effects, too."""
    left: dict[bytes, dict[tuple[str, str], int]] = field(default_factory=dict)
    """Of each open hold."""
    decided: dict[bytes, tuple[str, int]] = field(default_factory=dict)

    def append(self, commands: Sequence[Command]) -> int:
        """Decide a frame; returns its position."""
        position = len(self.frames) + 1
        batch = Batch(bytes(16), position, START_US + 1_000 * position, list(commands))
        payload = encode(batch)
        before = self.frames[-1].digest if self.frames else DIGEST_NONE
        self.frames.append(Frame(position, payload, frame_digest(position, before, payload)))
        applied = apply(self.state, batch)
        item = 0
        for command, outcome in zip(commands, applied.outcomes, strict=True):
            id = getattr(command, "id", b"")
            if id and id not in self.decided:
                self.decided[id] = Outcome(outcome).name, position
                self.told.append(told(command, position, item, Outcome(outcome).name))
                self.written.append(self._written(self.told[-1]))
                item += 1
        accounts = self.state.accounts
        self.books.append(
            {
                name: Totals(each.debits, each.credits, each.held_debits, each.held_credits)
                for name, each in accounts.items()
            }
        )
        self.chain.append(self.state.outcomes_digest)
        return position

    def _written(self, told: Told) -> Told:
        """Add what SQL tells beside: what the postings did, and what became of the rest of a hold."""
        asked = told.postings or ()
        rest: list[Effected] = []
        if told.outcome == "held":
            self.left[told.id] = {(each.source, each.destination): each.amount for each in asked}
        elif told.outcome in {"settled", "released"}:
            left = self.left[told.hold]
            for each in asked:
                left[each.source, each.destination] -= each.amount
            if not asked or told.is_final or not any(left.values()):
                how = "settle_rest" if told.kind == "settle" and not asked else "give_back"
                rest = [Effected(how, *ends, amount) for ends, amount in self.left.pop(told.hold).items() if amount]
        effect = told.kind if told.outcome in DONE else "refused"
        effects = [*(Effected(effect, each.source, each.destination, each.amount) for each in asked), *rest]
        return told._replace(effects=tuple(sorted(effects)))


def told(command: Command, position: int, item: int, outcome: str) -> Told:
    kind, hold, is_final = "post", b"", True
    postings: tuple[Posting, ...] = ()
    match command:
        case PostOne():
            postings = (Posting(command.source, command.destination, command.amount),)
        case Post() | Hold():
            kind, postings = "post" if isinstance(command, Post) else "hold", command.postings
        case Settle():
            kind, hold, is_final, postings = "settle", command.hold, command.final, command.postings
        case Release():
            kind, hold = "release", command.hold
        case _:
            raise AssertionError(command)
    amount = sum(each.amount for each in postings)
    return Told(position, item, command.id, kind, outcome, hold, amount, is_final, postings)


class World:
    """A ledger and its clients, after some steps.

    Args:
        seed: what they do is drawn from it.
        steps: how much they do.
    """

    def __init__(self, seed: int, steps: int) -> None:
        self._chance = Random(seed)
        self._now = 100.0
        self._number = 0
        self._ledger = Ledger()
        self.batches: list[list[Command]] = []
        self.asked: list[Asked] = []
        self._sent: list[Asked] = []
        self._decided: list[Asked] = []
        self._doubtful: list[Asked] = []
        self._seen = [0] * CLIENTS
        self._acknowledged = 0
        self._set_up()
        for _ in range(steps):
            self._step()

    def ledger(self) -> Ledger:
        """What the frames come to by now; a test may have changed them."""
        found = Ledger()
        for commands in self.batches:
            found.append(commands)
        return found

    def evidence(self) -> Evidence:
        """What all witnesses say, if the frames are what they are."""
        ledger = self.ledger()
        last = len(ledger.frames)
        chance = Random(last)
        samples = sorted(chance.randint(1, last) for _ in range(3))
        rows = [
            (position, account, totals)
            for position in range(1, last + 1)
            for account, totals in sorted(ledger.books[position].items())
            if totals != ledger.books[position - 1].get(account, Totals())
        ]
        feed = FeedSaid(position=last, events=ledger.told)
        late = chance.randint(0, last)
        later = FeedSaid(position=last, events=[each for each in ledger.told if each.position > late], after=late)
        return Evidence(
            asked=[copy(each) for each in self.asked],
            frames=ledger.frames,
            nodes=[
                *(NodeSaid(node="a", position=each, accounts=ledger.books[each]) for each in samples),
                *(self._said(ledger, node, last) for node in ("a", "b")),
            ],
            feeds={"a": feed, "b": later},
            sql={
                "sql": SqlSaid(position=last, transactions=ledger.written, accounts=ledger.books[last], balances=rows),
                "older sql": SqlSaid(position=last, transactions=ledger.written, accounts=ledger.books[last]),
            },
            archives={
                name: ArchiveSaid(digests={frame.position: frame.digest for frame in ledger.frames}) for name in "xy"
            },
        )

    def _said(self, ledger: Ledger, node: str, position: int) -> NodeSaid:
        return NodeSaid(
            node=node,
            position=position,
            accounts=ledger.books[position],
            outcomes=ledger.chain[position],
            outcomes_position=position,
        )

    # --- what happens

    def _set_up(self) -> None:
        opened: list[Command] = [RegisterAsset("EUR/2"), OpenAccount(BANK, "EUR/2", None)]
        opened += [OpenAccount(each, "EUR/2") for each in (*CUSTOMERS, *TEST)]
        opened.append(OpenAccount(PURSE, "EUR/2", 0, PURSE_MAX))
        self._append(opened)
        self._acknowledged = self._append([PostOne(self._new_id(), BANK, each, TEST_BALANCE) for each in TEST])

    def _append(self, commands: list[Command]) -> int:
        self.batches.append(commands)
        return self._ledger.append(commands)

    def _new_id(self) -> bytes:
        self._number += 1
        return id_of(self._number)

    def _step(self) -> None:
        self._now += self._chance.choice((0.001, 0.001, 0.01))
        step = self._chance.choices(
            (self._send, self._read, self._decide, self._answer, self._give_up, self._turn_away), (30, 22, 20, 30, 3, 3)
        )[0]
        step()

    def _send(self) -> None:
        chance = self._chance
        made = Asked(due=self._now, client=chance.randrange(CLIENTS), kind="post", id=self._new_id(), sent=self._now)
        made.at_least = self._seen[made.client]
        holds = [each for each in self.asked if each.kind == "hold"]
        what = chance.choice(("customer", "purse", "test", "test", "hold", "end", "end"))
        if what == "end" and holds:
            hold = chance.choice(holds[-4:])
            made.kind, made.hold = chance.choice(("settle", "settle", "release")), hold.id
            if made.kind == "settle" and chance.random() < 0.7:
                made.source, made.destination = hold.source, hold.destination
                made.amount, made.is_final = chance.randint(1, hold.amount + 1), chance.random() < 0.5
        elif what == "purse":
            made.source, made.destination = chance.choice(((BANK, PURSE), (PURSE, BANK)))
            made.amount = chance.randint(1, PURSE_MAX // 2)
        elif what == "test":
            made.source, made.destination = chance.sample(TEST, 2)
            made.amount = chance.randint(1, TEST_BALANCE)
        else:
            made.kind = "post" if what == "customer" else "hold"
            made.source, made.destination, made.amount = BANK, chance.choice(CUSTOMERS), chance.randint(1, 9)
            if made.kind == "hold" and chance.random() < 0.4:
                made.source, made.destination = made.destination, made.source
        self.asked.append(made)
        self._sent.append(made)

    def _decide(self) -> None:
        """A frame takes some of what was sent, in any order, and perhaps a retry of what was decided before."""
        chance = self._chance
        taken = [each for each in self._sent if chance.random() < 0.6]
        chance.shuffle(taken)
        again = [each for each in self._decided + self._doubtful if chance.random() < 0.05]
        late = [each for each in self._doubtful if chance.random() < 0.2]
        position = self._append([command_of(each) for each in (*taken, *late, *again)])
        for each in taken:
            self._sent.remove(each)
            self._decided.append(each)
        assert position == len(self.batches)

    def _answer(self) -> None:
        if not self._decided:
            return
        each = self._decided.pop(self._chance.randrange(len(self._decided)))
        each.outcome, each.position = self._ledger.decided[each.id]
        each.ended = self._now
        self._noticed(each)

    def _noticed(self, asked: Asked) -> None:
        self._seen[asked.client] = max(self._seen[asked.client], asked.position)
        self._acknowledged = max(self._acknowledged, asked.position)

    def _give_up(self) -> None:
        waiting = self._sent + self._decided
        if not waiting:
            return
        each = self._chance.choice(waiting)
        each.error, each.ended = "no answer in time", self._now
        (self._sent if each in self._sent else self._decided).remove(each)
        self._doubtful.append(each)

    def _turn_away(self) -> None:
        if not self._sent:
            return
        each = self._sent.pop(self._chance.randrange(len(self._sent)))
        each.error, each.ended, each.is_undone = "HTTP status 503", self._now, True
        each.is_refused = self._chance.random() < 0.5

    def _read(self) -> None:
        """A read is sent, the state is what it is some time later, or on a node that lags what it was, and it ends."""
        chance = self._chance
        client, sent = chance.randrange(CLIENTS), self._now
        made = Asked(due=sent, client=client, kind="read", destination=chance.choice(ACCOUNTS), sent=sent)
        if chance.random() < 0.4:
            made.kind, made.destination, made.accounts = "total", "", TEST
        made.is_linearizable = made.kind == "total" or chance.random() < 0.3
        made.at_least = self._seen[client]
        least, newest = self._acknowledged if made.is_linearizable else made.at_least, len(self.batches)
        for _ in range(chance.choice((0, 0, 1, 3))):
            chance.choice((self._send, self._decide, self._answer))()
            self._now += 0.001
            newest = len(self.batches)
        made.position = chance.randint(max(least, 1), newest)
        names = made.accounts or (made.destination,)
        books = self._ledger.books[made.position]
        self.asked.append(made)
        if chance.random() < 0.05:
            made.error, made.is_undone, made.position, made.ended = "no answer in time", True, 0, self._now
            return
        made.balances = {name: books[name].balance for name in names}
        made.outcome, made.ended = "read", self._now + 0.0005
        self._noticed(made)
