"""Read a journal with eyes of one's own: what was asked of the ledger, and what that must come to.

Nothing of the ledger's machinery is used here but the reading of frames and commands. What they come to is worked out
by the plainest code there is, dicts of integers: an id counts the first time it is found, a posting moves its amount
unless a limit of an account forbids it. So a transaction that the ledger lost, carried out twice or carried out though
it had refused it shows as a difference between this and what the ledger says.

Books know four commands: register an asset, open an account, and post in either form. Any other one is foreign, and the
judge is told.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from fivenines.journal.port import Frame, JournalDamagedError
from fivenines.journal.verify import show
from fivenines.ledger import Command, OpenAccount, Post, PostOne, RegisterAsset, decode

__all__ = ["OnDisk", "Totals", "read_disk", "replay_frames"]


@dataclass(slots=True)
class Totals:
    """What went through an account, in smallest units of its asset."""

    asset: str
    debits: int = 0
    credits: int = 0

    @property
    def balance(self) -> int:
        """Credits - debits."""
        return self.credits - self.debits


@dataclass(slots=True)
class OnDisk:
    """What a journal comes to."""

    position: int = 0
    carried_out: dict[bytes, int] = field(default_factory=dict)
    """The transactions that moved money, with the position of the first frame that asks for them."""
    refused: dict[bytes, int] = field(default_factory=dict)
    """Those that a limit or an unknown account forbade."""
    asked_again: Counter[bytes] = field(default_factory=Counter)
    """How often an id was found again after the first time: retries whose first answer was lost."""
    reused: list[bytes] = field(default_factory=list)
    """Ids that were found again with other content."""
    foreign: int = 0
    """Commands that no books have."""
    accounts: dict[str, Totals] = field(default_factory=dict)
    by_date: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))
    """What each account gained on each effective date (ISO 8601)."""

    def found_at(self, id: bytes) -> int | None:
        """Return the position of the first frame that asks for a transaction, None where none does."""
        return self.carried_out.get(id) or self.refused.get(id)


def read_disk(directory: Path) -> OnDisk:
    """Read the journal in a folder from its first frame to its last, or up to where it is damaged.

    Raises:
        TrimmedError: the journal begins later.
        OSError: the folder cannot be read.
    """
    return replay_frames(_sound_frames(directory))


def replay_frames(frames: Iterable[Frame]) -> OnDisk:
    """Work out what frames come to."""
    found = OnDisk()
    contents: dict[bytes, object] = {}
    limits: dict[str, tuple[int | None, int | None]] = {}
    for frame in frames:
        found.position = frame.position
        for command in decode(frame.payload).commands:
            _take(command, frame.position, found, contents, limits)
    return found


def _sound_frames(directory: Path) -> Iterator[Frame]:
    with suppress(JournalDamagedError):  # `journal.verify` tells of it; here counts what can be read
        yield from show(directory, 1)


def _take(
    command: Command,
    position: int,
    found: OnDisk,
    contents: dict[bytes, object],
    limits: dict[str, tuple[int | None, int | None]],
) -> None:
    match command:
        case RegisterAsset():
            pass
        case OpenAccount(account=account, asset=asset):
            if account not in found.accounts:
                found.accounts[account] = Totals(asset)
                limits[account] = (command.min_balance, command.max_balance)
        case PostOne() | Post():
            postings = _postings(command)
            date = (command.effective_date or "") if isinstance(command, Post) else ""
            content = (postings, date)
            if command.id in contents:
                found.asked_again[command.id] += 1
                if contents[command.id] != content:
                    found.reused.append(command.id)
                return
            contents[command.id] = content
            if _move(postings, found.accounts, limits):
                found.carried_out[command.id] = position
                for source, destination, amount in postings:
                    found.by_date[source][date] -= amount
                    found.by_date[destination][date] += amount
            else:
                found.refused[command.id] = position
        case _:
            found.foreign += 1


def _postings(command: PostOne | Post) -> tuple[tuple[str, str, int], ...]:
    if isinstance(command, PostOne):
        return ((command.source, command.destination, command.amount),)
    return tuple((each.source, each.destination, each.amount) for each in command.postings)


def _move(
    postings: tuple[tuple[str, str, int], ...],
    accounts: dict[str, Totals],
    limits: dict[str, tuple[int | None, int | None]],
) -> bool:
    """Move all of the amounts and return True, or move none."""
    done: list[tuple[str, str, int]] = []
    for source, destination, amount in postings:
        if _may(source, destination, amount, accounts, limits):
            accounts[source].debits += amount
            accounts[destination].credits += amount
            done.append((source, destination, amount))
            continue
        for undone_source, undone_destination, undone in done:
            accounts[undone_source].debits -= undone
            accounts[undone_destination].credits -= undone
        return False
    return True


def _may(
    source: str,
    destination: str,
    amount: int,
    accounts: dict[str, Totals],
    limits: dict[str, tuple[int | None, int | None]],
) -> bool:
    if source == destination or source not in accounts or destination not in accounts:
        return False
    low, high = limits[source][0], limits[destination][1]
    return (
        accounts[source].asset == accounts[destination].asset
        and (low is None or accounts[source].balance - amount >= low)
        and (high is None or accounts[destination].balance + amount <= high)
    )
