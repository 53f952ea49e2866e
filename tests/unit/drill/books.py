"""A small world for the judge: a till, an empty vault, three customers, twelve transactions, and nothing wrong.

`World` builds evidence as a drill would find it; a test changes one thing, and sees who notices.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fivenines.drill.checker.books import Evidence, judge
from fivenines.drill.disk import Totals, replay_frames
from fivenines.drill.record import Answer, Kill, Record, Try
from fivenines.drill.replay import Call, Replay
from fivenines.drill.report import Result
from fivenines.importers import Report
from fivenines.journal import Frame
from fivenines.ledger import Batch, Command, OpenAccount, Post, Posting, RegisterAsset, encode

CUSTOMERS = ("ada", "bob", "cyd")
DATES = ("2023-01-01", "2023-01-02", "2023-01-03")


def id_of(number: int) -> bytes:
    return bytes.fromhex(f"0190000000007000800000000000{number:04x}")


def frame_of(position: int, commands: Sequence[Command]) -> Frame:
    """A frame as a journal holds it; its place in the chain is of no interest here."""
    return Frame(position, encode(Batch(bytes(16), position, 1_700_000_000_000_000, commands)), bytes(32))


def post(number: int, source: str, destination: str, amount: int, date: str = DATES[0]) -> Post:
    return Post(id_of(number), (Posting(source, destination, amount),), date)


@dataclass
class World:
    """What happened, as each witness tells it."""

    frames: list[list[Command]] = field(default_factory=list)
    answers: dict[bytes, Answer] = field(default_factory=dict)
    changed: list[tuple[bytes, Answer]] = field(default_factory=list)
    accounts: dict[str, Totals] = field(default_factory=dict)
    wrong_in_themselves: list[str] = field(default_factory=list)
    decisions: dict[bytes, list[Answer]] = field(default_factory=dict)
    sent_again: dict[bytes, Answer] = field(default_factory=dict)
    accounts_after: dict[str, Totals] = field(default_factory=dict)
    nodes: dict[str, tuple[int, str, dict[str, Totals]]] = field(default_factory=dict)
    stated: dict[str, int] = field(default_factory=dict)
    stated_by_date: dict[tuple[str, str], int] = field(default_factory=dict)

    def evidence(self) -> Evidence:
        return Evidence(
            answers=self.answers,
            changed=self.changed,
            disk=replay_frames(frame_of(position, commands) for position, commands in enumerate(self.frames, 1)),
            accounts=self.accounts,
            wrong_in_themselves=self.wrong_in_themselves,
            decisions=self.decisions,
            sent_again=self.sent_again,
            accounts_after=self.accounts_after,
            nodes=self.nodes,
            stated=self.stated,
            stated_by_date=self.stated_by_date,
        )

    def failed(self) -> dict[str, int]:
        """The checks that fail, and how much they find wrong."""
        return {name: finding.wrong for name, finding in judge(self.evidence()).items() if not finding.passed}

    def move(self, source: str, destination: str, amount: int) -> None:
        """Let the ledger say that an amount moved."""
        for totals in (self.accounts, self.accounts_after):
            totals[source].debits += amount
            totals[destination].credits += amount


def sound_world() -> World:
    """Each customer is paid three times, one a day, then an empty vault refuses a fourth payment to each."""
    world = World()
    world.frames.append([RegisterAsset("EUR/2"), OpenAccount("vault", "EUR/2"), OpenAccount("till", "EUR/2", None)])
    world.frames.append([OpenAccount(customer, "EUR/2") for customer in CUSTOMERS])
    for name in ("till", "vault", *CUSTOMERS):
        world.accounts[name], world.accounts_after[name] = Totals("EUR/2"), Totals("EUR/2")
    number = 0
    for day, date in enumerate((*DATES, "2023-01-04")):
        commands: list[Command] = []
        for index, customer in enumerate(CUSTOMERS):
            number += 1
            commands.append(post(number, "till" if day < 3 else "vault", customer, 100 * (index + 1), date))
            answer = Answer("posted" if day < 3 else "insufficient_funds", len(world.frames) + 1)
            world.answers[id_of(number)] = world.sent_again[id_of(number)] = answer
            world.decisions[id_of(number)] = [answer]
            if day < 3:
                world.move("till", customer, 100 * (index + 1))
                world.stated_by_date[customer, date] = world.stated[customer] = 100 * (index + 1) * (day + 1)
        world.frames.append(commands)
    for name in ("west", "north", "east"):
        world.nodes[name] = (7, "abc", dict(world.accounts_after))
    # A retry whose first answer was cut off: it is in the journal twice, and counts once.
    world.frames.append([world.frames[2][0]])
    return world


def result_of(world: World, *, failed_requests: int = 0, error: str = "", kills_planned: int = 1) -> Result:
    """The result of a demo that found this world, with one kill."""
    answered = [
        Try(b"", is_msgpack=True, at=at, out_at=at, ended=at + 0.5, acknowledged=6) for at in (1.0, 2.0)
    ]  # the chart and the pauses are drawn from these
    kill = Kill(
        what="node west-1",
        at=1.75,
        after=6,
        requests=2,
        transactions=4,
        cut_off=1,
        decided_unheard=1,
        recovery_s=0.75,
    )
    report = Report(
        importer="berka", anchor="import:berka:books", summary={}, exact=9, checked=9, new=len(world.answers)
    )
    return Result(
        books="A small world",
        place="3 regions",
        cuts_requests=True,
        transactions=len(world.answers),
        kills_planned=kills_planned,
        replay=Replay(
            began=1.0,
            ended=3.0,
            record=Record(answers=world.answers, answered=answered),
            kills=[kill],
            failed_requests=failed_requests,
            asked=[Call(at, ended=at + 0.5) for at in (1.0, 1.8, 2.0)],
            whole_after_s=[0.9],
            rate_per_s=100.0,
            report=None if error else report,
            error=error,
        ),
        findings=judge(world.evidence()),
        journal_is_sound=True,
        troubles=[],
        check_s=0.25,
        total_s=4.0,
    )


def out_folder(parent: Path) -> Path:
    """A folder for results, with the data of a demo in it."""
    (parent / "demo" / "ledger").mkdir(parents=True)
    return parent
