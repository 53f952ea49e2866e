"""Long journals from a seed: ids that follow the time, holds that are settled, money that runs out, and accounts.

What hypothesis makes is short, and shrinks well; this goes deep. A journal is a function of its seed.
"""

from collections.abc import Callable
from random import Random

from fivenines.ledger import (
    POST_ONE_AMOUNT_MAX,
    Activate,
    Batch,
    ChangeAccount,
    Command,
    Hold,
    OpenAccount,
    Post,
    Posting,
    PostOne,
    RegisterAsset,
    Release,
    Settle,
)
from tests.property.ledger.sequences import DAY_MS, EDGE_AMOUNTS, PREAMBLE, START_MS, WRITER

STEPS_MS = [0, 0, 0, 1, 1, 5, 1_000, 1_000, 3_000, -2_000]


class Journalist:
    """Writes a journal. It keeps no books: what becomes of its commands is for others to find out."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self._time_ms = START_MS
        self._ids: list[bytes] = []
        self._commands: list[Command] = []
        self._holds: list[Hold] = []
        self._accounts = ["bank", "world", "alice", "bob"]

    def journal(self, *, frames: int, commands: int) -> list[Batch]:
        batches = [Batch(WRITER, 0, START_MS * 1000, [*PREAMBLE, OpenAccount("dormant", "EUR/2")])]
        for sequence in range(1, frames):
            self._time_ms += self._random.choice(STEPS_MS)
            if self._random.random() < 0.02:
                self._time_ms += self._random.choice([DAY_MS, 29 * DAY_MS, 31 * DAY_MS])
            found = [self._command() for _ in range(self._random.randrange(2 * commands))]
            batches.append(Batch(WRITER, sequence, self._time_ms * 1000 + self._random.randrange(1000), found))
        return batches

    def _command(self) -> Command:
        if self._commands and self._random.random() < 0.05:
            return self._random.choice(self._commands)
        makers: dict[Callable[[], Command], int] = {
            self._post_one: 40,
            self._post: 15,
            self._hold: 12,
            self._settle: 12,
            self._release: 4,
            self._change: 4,
            self._open: 3,
            self._register: 1,
            self._activate: 1,
        }
        (maker,) = self._random.choices([*makers], weights=[*makers.values()])
        command = maker()
        self._commands.append(command)
        return command

    def _id(self) -> bytes:
        chance = self._random.random()
        if self._ids and chance < 0.03:
            return self._random.choice(self._ids)
        late_ms = self._random.choice([0, 0, 0, 1, 500, 20_000])
        if chance < 0.05:
            late_ms = self._random.choice([30 * DAY_MS - 2, 30 * DAY_MS, 30 * DAY_MS + 2, -299_000, -300_001, -400_000])
        random_part = self._random.getrandbits(80).to_bytes(10, "big")
        self._ids.append((self._time_ms - late_ms).to_bytes(6, "big") + random_part)
        return self._ids[-1]

    def _amount(self) -> int:
        if self._random.random() < 0.04:
            return self._random.choice(EDGE_AMOUNTS)
        return self._random.choice([1, 2, 5, 20, 60])

    def _account(self) -> str:
        if self._random.random() < 0.04:
            return self._random.choice(["dollars", "dormant", "nobody"])
        return self._random.choice(self._accounts)

    def _posting(self) -> Posting:
        amount = self._amount() if self._random.random() < 0.98 else self._random.choice([0, -5])
        return Posting(self._account(), self._account(), amount)

    def _post_one(self) -> Command:
        return PostOne(self._id(), self._account(), self._account(), min(self._amount(), POST_ONE_AMOUNT_MAX))

    def _post(self) -> Command:
        postings = tuple(self._posting() for _ in range(self._random.choice([0, 1, 1, 2, 2, 3])))
        return Post(self._id(), postings, reference=self._random.choice([None, "rent"]))

    def _hold(self) -> Command:
        timeout_us = self._random.choice([None, None, 0, 1, 2_000_000, 8_000_000, 2**62])
        hold = Hold(self._id(), tuple(self._posting() for _ in range(self._random.choice([1, 1, 2, 3]))), timeout_us)
        self._holds.append(hold)
        return hold

    def _some_hold(self) -> Hold | None:
        return self._random.choice(self._holds[-12:]) if self._holds and self._random.random() < 0.95 else None

    def _settle(self) -> Command:
        hold = self._some_hold()
        parts = [p for p in hold.postings if self._random.random() < 0.5] if hold else []
        share = self._random.choice([1, 1, 3])
        postings = tuple(Posting(p.source, p.destination, max(1, p.amount // share)) for p in parts)
        return Settle(self._id(), hold.id if hold else bytes(16), postings, final=self._random.random() < 0.3)

    def _release(self) -> Command:
        hold = self._some_hold()
        return Release(self._id(), hold.id if hold else bytes(16))

    def _change(self) -> Command:
        status = self._random.choice([None, 0, 0, 0, 0, 0, 1, 2, 2])
        limits = self._random.choice([None, None, (None, None), (0, None), (-1000, 1000), (5, 4), (None, -(2**127))])
        account = self._random.choice([*self._accounts[2:], "dormant", "nobody"])
        return ChangeAccount(self._id(), account, status, limits, self._random.choice([None, b"{}"]))

    def _open(self) -> Command:
        account = f"customer{len(self._accounts)}"
        if self._random.random() < 0.5:
            return OpenAccount(
                self._random.choice([account, *self._accounts, ""]), self._random.choice(["EUR/2", "EUR/3", "XAU/0"]), 1
            )
        self._accounts.append(account)
        return OpenAccount(account, "EUR/2", self._random.choice([None, 0, -50]), self._random.choice([None, 80]))

    def _register(self) -> Command:
        return RegisterAsset(self._random.choice(["EUR/2", "EUR/3", "XAG/0", "nothing"]))

    def _activate(self) -> Command:
        return Activate(self._random.choice([0, 1]))
