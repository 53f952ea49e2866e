"""Two releases are given the same frames: as long as the rules are the old ones, nobody can tell which of them was it.

Neither by what they decide, nor by the state that they come to, nor by the bytes that they write; and each goes on from
what the other has left. The frames say everything that commands can say.
"""

import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fivenines
from fivenines.ledger import (
    AMOUNT_MAX,
    Activate,
    Batch,
    ChangeAccount,
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
    encode,
)
from tests.e2e.rolling.next_version import NEXT_RULES, NEXT_VERSION
from tests.unit.ledger.world import NOW_MS, make_id, posts

REPLAY = Path(__file__).with_name("replay.py")
FRAMES, COMMANDS = 60, 12
ACCOUNTS = ("bank", "alice", "bob", "carol")


def replay(release: Path, frames: list[str], *, image: list[str] | None = None) -> dict[str, Any]:
    """Have a release apply frames, beginning with an image or with nothing."""
    done = subprocess.run(
        [sys.executable, str(REPLAY), str(release)],
        input=json.dumps({"image": image or [], "frames": frames}),
        capture_output=True,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def commands(chance: random.Random) -> Iterator[Command]:
    """Yield commands of all kinds without end, each saying now less and now more, some of them once more."""
    number = 0
    said: list[Command] = []
    while True:
        number += 1
        id = make_id(number)
        source, destination = chance.sample(ACCOUNTS, 2)
        amounts = (chance.randint(1, 50), 2**62, AMOUNT_MAX // 3)
        postings = tuple(Posting(source, destination, amounts[chance.choice((0, 0, 0, 1, 2))]) for _ in range(2))
        postings = postings[: chance.randint(1, 2)]
        more: tuple[Any, ...] = (None, None, None)
        if chance.random() < 0.5:
            more = ("2026-01-31", "rent", b'{"a":1}')
        hold = chance.choice([command.id for command in said if isinstance(command, Hold)][-4:] or [id])
        kinds: list[Command] = [
            PostOne(id, source, destination, chance.randint(1, 50)),
            Post(id, postings, *more),
            Hold(id, postings, chance.choice((None, 1_000_000)), *more),
            Settle(id, hold, chance.choice(((), postings)), chance.random() < 0.5, *more),
            Release(id, hold, *more),
            OpenAccount(f"{source} {number}", "EUR/2", chance.choice((0, None, -AMOUNT_MAX)), metadata=more[2]),
            ChangeAccount(id, source, chance.choice((None, 0, 0, 0, 1)), chance.choice((None, (None, AMOUNT_MAX)))),
            RegisterAsset(f"X{number}/3"),
        ]
        if said and chance.random() < 0.15:
            yield chance.choice(said)
        else:
            said.append(chance.choice(kinds))
            yield said[-1]


@pytest.fixture(scope="module")
def frames() -> list[str]:
    """A journal that this release wrote, in hex."""
    chance = random.Random(5)
    stream = commands(chance)
    batches: list[Batch] = [
        Batch(bytes(16), 0, NOW_MS * 1000, [RegisterAsset("EUR/2"), *(OpenAccount(a, "EUR/2", None) for a in ACCOUNTS)])
    ]
    for sequence in range(1, FRAMES):
        time_us = NOW_MS * 1000 + sequence * 100_000
        batches.append(Batch(bytes(16), sequence, time_us, [next(stream) for _ in range(COMMANDS)]))
    return [encode(batch).hex() for batch in batches]


def _with_channel(post: Post, channel: str | None) -> str:
    """Make a frame of the next schema."""
    *head, [command] = msgspec.msgpack.decode(encode(Batch(bytes(16), 0, 0, [post]))[1:])
    return (b"\x03" + msgspec.msgpack.encode([*head, [[*command, channel]]])).hex()


def test_the_same_frames_are_decided_and_written_alike(releases: dict[str, Path], frames: list[str]) -> None:
    told = [replay(release, frames) for release in releases.values()]
    assert [each.pop("version") for each in told] == [fivenines.__version__, NEXT_VERSION]
    assert told[0] == told[1]
    assert told[0]["written"] == frames
    seen = {Outcome(outcome).name for frame in told[0]["outcomes"] for outcome in frame}
    assert {"posted", "held", "settled", "released", "done", "hold_unknown", "account_frozen", "hold_exceeded"} <= seen


@pytest.mark.parametrize(("whole", "other"), [("present", "next"), ("next", "present")])
def test_each_goes_on_from_what_the_other_has_left(
    releases: dict[str, Path], frames: list[str], whole: str, other: str
) -> None:
    expected = replay(releases[whole], frames)
    half = replay(releases[whole], frames[: FRAMES // 2])
    told = replay(releases[other], frames[FRAMES // 2 :], image=half["image"])
    assert (told["digest"], told["outcomes"]) == (expected["digest"], expected["outcomes"][FRAMES // 2 :])


def test_from_the_activation_on_only_the_next_one_goes_on(releases: dict[str, Path], frames: list[str]) -> None:
    half = FRAMES // 2
    activation = encode(Batch(bytes(16), 99, 0, [Activate(NEXT_RULES)])).hex()
    rolled = [*frames[:half], activation, *frames[half:]]
    told = replay(releases["next"], rolled)
    assert [frame[:2] for frame in told["written"]] == ["02"] * (half + 1) + ["03"] * (FRAMES - half)
    # What it writes now says what the older frames said.
    again = replay(releases["next"], told["written"])
    assert (again["digest"], again["written"]) == (told["digest"], told["written"])

    # And it may say more. What it says is part of what an id stands for.
    said = [
        _with_channel(Post(make_id(9_999), posts("bank", "carol", 1)), channel)
        for channel in ("card", "card", "cash", None)
    ]
    assert replay(releases["next"], said, image=told["image"])["outcomes"] == [
        [Outcome.posted],
        [Outcome.posted],
        [Outcome.id_reused],
        [Outcome.id_reused],
    ]

    for image, rest in ((None, rolled), (told["image"], [])):
        with pytest.raises(subprocess.CalledProcessError) as caught:
            replay(releases["present"], rest, image=image)
        assert "activated rules 2; this release runs [1]" in caught.value.stderr
