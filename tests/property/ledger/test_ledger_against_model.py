"""The real ledger against the model that is written to be obvious, over random journals."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fivenines.ledger import (
    Applied,
    Batch,
    Command,
    Outcome,
    Post,
    Posting,
    PostOne,
    State,
    apply,
    decided,
    decode,
    digest,
    encode,
    image,
    restore,
)
from tests.property.ledger.long_journals import Journalist
from tests.property.ledger.model import Model
from tests.property.ledger.sequences import WRITER, journals, leaps_ms, steps_ms


def through_the_wire(batch: Batch) -> Batch:
    return decode(encode(batch))


def in_the_long_form(command: Command) -> Command:
    if isinstance(command, PostOne):
        return Post(command.id, (Posting(command.source, command.destination, command.amount),))
    return command


def assert_money_is_right(state: State) -> None:
    assert state.imbalances() == {}
    held_debits = dict.fromkeys(state.accounts, 0)
    held_credits = dict.fromkeys(state.accounts, 0)
    for hold in state.holds.values():
        for posting in hold.postings.values():
            held_debits[posting.source.id] += posting.remaining
            held_credits[posting.destination.id] += posting.remaining
    for id, account in state.accounts.items():
        assert (id, account.held_debits, account.held_credits) == (id, held_debits[id], held_credits[id])
        assert account.min_balance is None or account.available >= account.min_balance
        assert account.ceiling is None or account.balance + account.held_credits <= account.ceiling
        assert all(
            0 <= total <= 2**127 - 1
            for total in (account.debits, account.credits, account.held_debits, account.held_credits)
        )


def assert_same_books(state: State, model: Model) -> None:
    assert {
        id: (a.asset.name, a.status, a.debits, a.credits, a.held_debits, a.held_credits, a.min_balance, a.ceiling)
        for id, a in state.accounts.items()
    } == {
        id: (b.asset, b.status, b.debits, b.credits, model.held_debits(id), model.held_credits(id), b.lowest, b.highest)
        for id, b in model.books.items()
    }
    assert {id: a.metadata for id, a in state.accounts.items()} == {id: b.metadata for id, b in model.books.items()}
    assert {asset.code: str(asset.scale) for asset in state.assets.values()} == model.assets
    assert list(state.holds) == list(model.holds)
    assert {id: hold.expires_us for id, hold in state.holds.items()} == {
        id: hold.expires_us for id, hold in model.holds.items()
    }
    assert (state.time_us, state.rules.version) == (model.time_us, model.rules)


@dataclass
class Run:
    """The same journal run by the state machine and by the model, compared after each frame."""

    state: State = field(default_factory=State)
    model: Model = field(default_factory=Model)

    def step(self, batch: Batch) -> Applied:
        applied = apply(self.state, through_the_wire(batch))
        outcomes, expired = self.model.apply(batch)
        assert [Outcome(outcome) for outcome in applied.outcomes] == outcomes
        assert applied.expired == expired
        assert applied.position == self.state.position
        assert_money_is_right(self.state)
        assert_same_books(self.state, self.model)
        return applied


@settings(max_examples=250)
@given(journals(steps=leaps_ms))
def test_it_answers_as_the_model_does_and_the_money_is_right_after_every_frame(journal: list[Batch]) -> None:
    run = Run()
    for batch in journal:
        run.step(batch)
    assert {id: Outcome(found.outcome) for id, found in run.state.decided.entries() if id >= run.state.horizon} == {
        id: outcome for id, (_, outcome) in run.model.answers.items() if id >= run.state.horizon
    }


@contextmanager
def small_blocks() -> Iterator[None]:
    """Blocks of ids so small that a short journal seals, splits and searches them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decided, "_BLOCK_IDS", 2)
        patch.setattr(decided, "_BLOCK_IDS_MAX", 4)
        patch.setattr(decided, "_SEAL_IDS", 6)
        patch.setattr(decided, "_TAIL_IDS_MAX", 8)
        yield


@given(journals(steps=steps_ms, frames_max=12))
def test_it_answers_as_the_model_does_however_its_memory_is_cut_into_blocks(journal: list[Batch]) -> None:
    run = Run()
    with small_blocks():
        for batch in journal:
            run.step(batch)
    assert {id: found.outcome for id, found in run.state.decided.entries()} == {
        id: outcome for id, (_, outcome) in run.model.answers.items()
    }


@pytest.mark.parametrize("seed", range(6))
def test_it_answers_as_the_model_does_in_long_journals(seed: int) -> None:
    run = Run()
    for batch in Journalist(seed).journal(frames=60, commands=12):
        run.step(batch)
    assert run.state.position == 60


def test_long_journals_reach_every_outcome() -> None:
    found: set[Outcome] = set()
    expired = 0
    for seed in range(40):
        state = State()
        for batch in Journalist(seed).journal(frames=60, commands=12):
            applied = apply(state, batch)
            found |= {Outcome(outcome) for outcome in applied.outcomes}
            expired += len(applied.expired)
    assert found == set(Outcome)
    assert expired > 0


@pytest.mark.parametrize("seed", range(6))
def test_in_long_journals_all_ways_to_a_state_give_the_same_one(seed: int) -> None:
    journal = Journalist(seed).journal(frames=120, commands=40)
    cut = 60
    whole, long, resumed = State(), State(), State()
    for position, batch in enumerate(journal):
        if position == cut:
            resumed = restore(image(whole))
        apply(whole, batch)
        apply(long, Batch(WRITER, 0, batch.time_us, [in_the_long_form(command) for command in batch.commands]))
        if position >= cut:
            apply(resumed, through_the_wire(batch))
        assert_money_is_right(whole)
    assert digest(whole) == digest(long) == digest(resumed)


@pytest.mark.parametrize("way", ["lanes", "long form"])
@given(journal=journals())
def test_the_short_way_and_the_long_way_lead_to_the_same_state(way: str, journal: list[Batch]) -> None:
    short, long = State(), State()
    for batch in journal:
        apply(short, batch)
        if way == "lanes":
            for account in long.accounts.values():
                account.lane = account
            apply(long, batch)
        else:
            commands = [in_the_long_form(command) for command in batch.commands]
            apply(long, Batch(batch.writer, batch.sequence, batch.time_us, commands))
        assert list(image(short)) == list(image(long))


@given(journal=journals(), data=st.data())
def test_a_snapshot_and_the_tail_of_the_journal_give_what_the_whole_journal_gives(
    journal: list[Batch], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(journal)), label="cut")
    whole, again = State(), State()
    resumed = State()
    for position, batch in enumerate(journal):
        if position == cut:
            chunks = list(image(whole))
            resumed = restore(chunks)
            assert list(image(resumed)) == chunks
        applied = apply(whole, batch)
        assert apply(again, through_the_wire(batch)) == applied
        if position >= cut:
            assert apply(resumed, batch) == applied
            assert digest(resumed) == digest(whole)
    assert digest(again) == digest(whole)
    assert digest(restore(image(whole))) == digest(whole)


@given(journal=journals())
def test_a_frame_that_is_appended_twice_changes_nothing_the_second_time(journal: list[Batch]) -> None:
    state = State()
    for batch in journal:
        first = apply(state, batch)
        # What leaves no trace may be decided the second time: ids outside of the window, and what has no id.
        kept = [
            (command, outcome)
            for command, outcome in zip(batch.commands, first.outcomes, strict=True)
            if hasattr(command, "id") and outcome not in {Outcome.id_expired, Outcome.id_in_future}
        ]
        before = list(image(state))
        copied = restore(before)
        second = apply(copied, Batch(batch.writer, batch.sequence, batch.time_us, [command for command, _ in kept]))
        if second.expired or second.time_us // 1000 != first.time_us // 1000:
            continue  # time went on, and with it more than the commands
        assert second.outcomes == [outcome for _, outcome in kept]
        assert list(image(copied))[1:] == before[1:]
