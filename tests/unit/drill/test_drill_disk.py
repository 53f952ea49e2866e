"""The judge's own reading of a journal comes to what the ledger itself comes to, for any books."""

from hypothesis import given
from hypothesis import strategies as st

from fivenines.drill.disk import replay_frames
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
    State,
    apply,
)
from tests.unit.drill.books import frame_of, id_of, post

ACCOUNTS = ("a", "b", "c", "unknown")
OPEN: list[Command] = [
    RegisterAsset("EUR/2"),
    RegisterAsset("USD/2"),
    OpenAccount("a", "EUR/2", None, None),
    OpenAccount("b", "EUR/2", 0, 500),
    OpenAccount("c", "USD/2", None, None),
    OpenAccount("d", "EUR/2", -100, None),
]
postings = st.builds(Posting, st.sampled_from([*ACCOUNTS, "d"]), st.sampled_from([*ACCOUNTS, "d"]), st.integers(1, 400))
ids = st.integers(1, 30).map(id_of)
posts = st.builds(Post, ids, st.lists(postings, min_size=1, max_size=3).map(tuple)) | st.builds(
    lambda id16, posting: PostOne(id16, posting.source, posting.destination, posting.amount), ids, postings
)


@given(st.lists(st.lists(posts, max_size=6), max_size=8))
def test_the_disk_comes_to_what_the_ledger_comes_to(frames: list[list[Command]]) -> None:
    time_us = 0x0190_0000_0000 * 1000  # that of the ids
    state = State()
    outcomes: dict[bytes, Outcome] = {}
    all_frames = [OPEN, *frames]
    for position, commands in enumerate(all_frames, 1):
        applied = apply(state, Batch(bytes(16), position, time_us, commands))
        for command, outcome in zip(commands, applied.outcomes, strict=True):
            if isinstance(command, Post | PostOne):
                outcomes.setdefault(command.id, Outcome(outcome))
    found = replay_frames(frame_of(position, commands) for position, commands in enumerate(all_frames, 1))
    assert found.carried_out.keys() == {id for id, outcome in outcomes.items() if outcome == Outcome.posted}
    assert found.refused.keys() == {id for id, outcome in outcomes.items() if outcome != Outcome.posted}
    assert {id: (each.debits, each.credits) for id, each in found.accounts.items()} == {
        id: (account.debits, account.credits) for id, account in state.accounts.items()
    }
    assert found.foreign == 0


def test_what_an_account_gained_is_kept_by_date() -> None:
    found = replay_frames([frame_of(1, OPEN), frame_of(2, [post(1, "a", "b", 5, "2023-01-02"), post(2, "b", "a", 2)])])
    assert found.by_date["b"] == {"2023-01-02": 5, "2023-01-01": -2}


def test_an_id_that_is_asked_again_counts_once_and_with_other_content_is_told() -> None:
    first = post(1, "a", "b", 5)
    found = replay_frames([frame_of(1, [*OPEN, first]), frame_of(2, [first, post(1, "a", "b", 6)])])
    assert found.accounts["b"].credits == 5
    assert found.asked_again[id_of(1)] == 2
    assert found.reused == [id_of(1)]
    assert found.found_at(id_of(1)) == 1


def test_a_command_that_no_books_have_is_told() -> None:
    found = replay_frames([frame_of(1, [*OPEN, Hold(id_of(1), (Posting("a", "b", 5),))])])
    assert found.foreign == 1
