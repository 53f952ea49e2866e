"""What it costs to judge: `python -m bench.checker` makes an honest history of many requests, and judges it.

The requests are those of a drill's mix, sixteen at once, decided by the ledger's state machine in frames of a few. And
there are as many witnesses as a platform of three regions has: three nodes with a sample every two seconds at 300
requests a second, six event feeds, three histories in SQL with the totals after each frame, three archives.
"""

import itertools
import time
from collections.abc import Sequence
from random import Random
from typing import Annotated

import typer

from fivenines.drill.checker import ArchiveSaid, Evidence, FeedSaid, NodeSaid, SqlSaid, Told, judge
from fivenines.drill.checker.course import Totals
from fivenines.drill.load.asked import Asked
from fivenines.drill.load.mix import ASSET, PURSE_MAX, TEST_BALANCE, Mix
from fivenines.ids import new_ids16
from fivenines.journal import Frame
from fivenines.journal.format import DIGEST_NONE, frame_digest
from fivenines.ledger import (
    Batch,
    Command,
    Hold,
    OpenAccount,
    Outcome,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
    State,
    apply,
    encode,
)

_AT_ONCE = 16
_RATE_PER_S = 300.0
_SAMPLE_EVERY = 600
"""Requests: two seconds."""


def command_of(asked: Asked) -> Command:
    """Return the command that a node makes of a request that writes."""
    postings = (Posting(asked.source, asked.destination, asked.amount),) if asked.amount else ()
    match asked.kind:
        case "post":
            return PostOne(asked.id, asked.source, asked.destination, asked.amount)
        case "hold":
            return Hold(asked.id, postings)
        case "settle":
            return Settle(asked.id, asked.hold, postings, asked.is_final)
        case _:
            return Release(asked.id, asked.hold)


class _Ledger:
    """The journal and all that is made of it."""

    def __init__(self) -> None:
        self.state = State()
        self.frames: list[Frame] = []
        self.told: list[Told] = []
        self.rows: list[tuple[int, str, Totals]] = []
        self._before: dict[str, Totals] = {}

    def append(self, commands: Sequence[Command], asked: Sequence[Asked]) -> None:
        """Decide a frame, and answer those who asked for it."""
        position = len(self.frames) + 1
        payload = encode(Batch(bytes(16), position, time.time_ns() // 1_000, list(commands)))
        before = self.frames[-1].digest if self.frames else DIGEST_NONE
        self.frames.append(Frame(position, payload, frame_digest(position, before, payload)))
        applied = apply(self.state, Batch(bytes(16), position, time.time_ns() // 1_000, list(commands)))
        for item, (each, outcome) in enumerate(zip(asked, applied.outcomes, strict=False)):
            each.outcome, each.position = Outcome(outcome).name, position
            self.told.append(
                Told(position, item, each.id, each.kind, each.outcome, each.hold, each.amount, each.is_final)
            )
        for name, totals in self.totals().items():
            if totals != self._before.get(name, Totals()):
                self.rows.append((position, name, totals))
                self._before[name] = totals

    def totals(self) -> dict[str, Totals]:
        """All accounts as they stand."""
        return {
            name: Totals(each.debits, each.credits, each.held_debits, each.held_credits)
            for name, each in self.state.accounts.items()
        }


def honest(requests: int, seed: int) -> Evidence:
    """Make a history of so many requests."""
    mix, ledger, chance = Mix(seed, 8), _Ledger(), Random(seed)
    opened: list[Command] = [RegisterAsset(ASSET), OpenAccount(mix.bank, ASSET, None)]
    opened += [OpenAccount(each, ASSET) for each in (*mix.customers, *mix.test_accounts)]
    opened += [OpenAccount(each, ASSET, 0, PURSE_MAX) for each in mix.purses]
    ledger.append(opened, [])
    fill = [
        Asked(due=0, client=0, kind="post", id=id, source=mix.bank, destination=account, amount=TEST_BALANCE)
        for id, account in zip(new_ids16(len(mix.test_accounts)), mix.test_accounts, strict=True)
    ]
    ledger.append([command_of(each) for each in fill], fill)
    asked: list[Asked] = []
    samples: list[NodeSaid] = []
    for number in itertools.count():
        if len(asked) >= requests:
            break
        now = 1_000.0 + len(asked) / _RATE_PER_S
        some = [mix.next(now + each / 10_000, each % 8) for each in range(_AT_ONCE)]
        for each in some:
            each.sent, each.ended = each.due, now + 0.04 + chance.random() / 100
        writes = [each for each in some if each.id]
        chance.shuffle(writes)
        half = len(writes) // 2
        for part in (writes[:half], writes[half:]):
            if part:
                ledger.append([command_of(each) for each in part], part)
        accounts = ledger.state.accounts
        for each in some:
            if not each.id:
                each.outcome, each.position = "read", len(ledger.frames)
                each.balances = {name: accounts[name].balance for name in each.accounts or (each.destination,)}
        asked += some
        if number % (_SAMPLE_EVERY // _AT_ONCE) == 0:
            samples += [
                NodeSaid(node=node, position=len(ledger.frames), accounts=ledger.totals()) for node in ("a", "b", "c")
            ]
    last = len(ledger.frames)
    digests = {frame.position: frame.digest for frame in ledger.frames}
    sql = SqlSaid(position=last, transactions=ledger.told, accounts=ledger.totals(), balances=ledger.rows)
    return Evidence(
        asked=asked,
        frames=ledger.frames,
        nodes=samples,
        feeds={name: FeedSaid(position=last, events=ledger.told) for name in "abcdef"},
        sql=dict.fromkeys("xyz", sql),
        archives={name: ArchiveSaid(digests=digests) for name in "xyz"},
    )


def main(
    requests: Annotated[int, typer.Option(help="How many.", min=100)] = 100_000,
    seed: Annotated[int, typer.Option(help="What is asked is drawn from it.")] = 1,
) -> None:
    """Make an honest history, judge it, and tell what that took."""
    evidence = honest(requests, seed)
    began, began_cpu = time.perf_counter(), time.process_time()
    judgement = judge(evidence)
    took_s, took_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
    typer.echo(str(judgement)[:2_000])
    for each in judgement.guarantees:
        typer.echo(f"{'kept' if each.is_kept else 'BROKEN'}  {each.guarantee}: {each.why}")
    count = len(evidence.asked)
    typer.echo(
        f"{count:,} requests judged in {took_s:.1f} s, {took_cpu_s:.1f} s of a core: {count / took_cpu_s:,.0f} a second"
    )


if __name__ == "__main__":
    typer.run(main)
