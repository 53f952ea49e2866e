"""What a finding tells: the smallest history that shows it, in lines with times from the first of them on."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.checker import Evidence, judge
from fivenines.drill.checker.telling import history, smallest
from fivenines.drill.load.asked import Asked
from fivenines.journal import Frame
from fivenines.journal.format import DIGEST_NONE, frame_digest
from fivenines.ledger import Batch, Command, OpenAccount, PostOne, RegisterAsset, encode


def id_of(number: int) -> bytes:
    return bytes.fromhex(f"0190000000007000800000000000{number:04x}")


def frames_of(*batches: Sequence[Command]) -> list[Frame]:
    frames, digest = [], DIGEST_NONE
    for position, commands in enumerate(batches, 1):
        payload = encode(Batch(bytes(16), position, 1_718_000_000_000_000 + position, list(commands)))
        digest = frame_digest(position, digest, payload)
        frames.append(Frame(position, payload, digest))
    return frames


OPENED = (RegisterAsset("EUR/2"), OpenAccount("bank", "EUR/2", None), OpenAccount("ada", "EUR/2"))


def post(number: int, sent: float, position: int, outcome: str = "posted") -> Asked:
    return Asked(
        due=sent,
        client=number,
        kind="post",
        id=id_of(number),
        source="bank",
        destination="ada",
        amount=25,
        sent=sent,
        ended=sent + 0.012,
        outcome=outcome,
        position=position,
    )


@given(st.sets(st.integers(0, 199), min_size=1, max_size=5), st.integers(200, 300))
def test_what_the_rest_is_wrong_without_is_taken_away(guilty: set[int], count: int) -> None:
    assert smallest(range(count), lambda some: guilty <= set(some)) == sorted(guilty)


def test_of_what_was_lost_its_one_request_is_told() -> None:
    asked = [post(1, 50.0, 2), post(2, 51.0, 3)]
    judgement = judge(Evidence(asked=asked, frames=frames_of(OPENED, [PostOne(id_of(1), "bank", "ada", 25)])))
    (lost,) = judgement.findings
    name = "01900000-0000-7000-8000-000000000002"
    assert lost.what == f"post 25 from bank to ada ({name}) was acknowledged at 3, and is not in the journal"
    assert lost.history == (
        f"+0.000 to +0.012 s  client 2: post 25 from bank to ada ({name}) → posted at 3",
        f"journal, frames 1 to 2: none asks for {name}",
    )
    assert (judgement.lost, judgement.doubled, judgement.reordered) == (1, 0, 0)


def test_of_what_was_reordered_the_two_that_clash_are_told() -> None:
    """Of a hundred requests, the one that was decided too early and one that had been answered before."""
    asked = [post(number, float(number), 2 + number) for number in range(100)]
    asked[60].position, asked[70].position = 72, 62
    batches = [[PostOne(id_of(number), "bank", "ada", 25)] for number in range(100)]
    batches[60], batches[70] = batches[70], batches[60]
    judgement = judge(Evidence(asked=asked, frames=frames_of(OPENED, *batches)))
    assert set(judgement.counts) == {"reordered"}
    first = judgement.findings[0]
    assert [line.partition("  ")[0] for line in first.history[:2]] == ["+0.000 to +0.012 s", "+1.000 to +1.012 s"]
    assert "client 60" in first.history[0]
    assert "client 61" in first.history[1]
    assert len(first.history) == 3
    assert str(judgement).startswith("100 requests, 100 acknowledged, 0 failed, 0 turned away; 10 findings")


def test_a_judge_who_saw_nothing_passes_nobody() -> None:
    judgement = judge(Evidence(asked=[], frames=frames_of(OPENED)))
    assert not judgement.findings
    assert not judgement.is_good
    assert {each.why for each in judgement.guarantees} == {"nothing was acknowledged"}
    assert not any(each.is_kept for each in judgement.guarantees)


def test_what_was_never_answered_is_told_as_such() -> None:
    unheard = Asked(due=1.0, client=3, kind="settle", id=id_of(7), hold=id_of(6), amount=5, is_final=False, sent=1.0)
    (line,) = history([unheard])
    assert line.startswith("+0.000 to … s  client 3: settle 5 of hold 01900000-")
    assert line.endswith("→ no answer: still under way")
