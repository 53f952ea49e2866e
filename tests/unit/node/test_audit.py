"""The audit: equal states give equal digests, any difference shows within a round, and only a minority leaves."""

import pytest

from fivenines.journal import Frame
from fivenines.ledger import Batch, Command, OpenAccount, PostOne, RegisterAsset, State, apply
from fivenines.node.audit import AUDIT_ACCOUNTS, AUDIT_FRAMES, Auditor, dissent

ACCOUNTS = 2 * AUDIT_ACCOUNTS + 100


class Replica:
    """A state and its auditor, without a journal."""

    def __init__(self) -> None:
        self.state = State()
        self.auditor = Auditor(self.state)

    def apply(self, batch: Batch) -> None:
        applied = apply(self.state, batch)
        self.auditor.on_applied(Frame(applied.position, b"", b""), batch, applied)


def batches(count: int) -> list[Batch]:
    names = [f"a{number}" for number in range(ACCOUNTS)]
    opening: list[Command] = [RegisterAsset("EUR/2")]
    opening += [OpenAccount(name, "EUR/2", min_balance=None) for name in names]
    found = [Batch(bytes(16), 1, 1_760_000_000_000_000, opening)]
    for number in range(1, count):
        id = (1_760_000_000_000 + number).to_bytes(6, "big") + b"\x70" + number.to_bytes(9, "big")
        posting = PostOne(id, names[number % ACCOUNTS], names[(7 * number + 1) % ACCOUNTS], number)
        found.append(Batch(bytes(16), number + 1, 1_760_000_000_000_000 + number, [posting]))
    return found


def test_replicas_of_the_same_frames_have_the_same_audits_from_wherever_they_began() -> None:
    whole, late = Replica(), Replica()
    frames = batches(6 * AUDIT_FRAMES)
    for batch in frames:
        whole.apply(batch)
    half = len(frames) // 2 + 7
    for batch in frames[:half]:
        apply(late.state, batch)
    late.auditor = Auditor(late.state)
    for batch in frames[half:]:
        late.apply(batch)
    assert list(whole.auditor.audits) == [AUDIT_FRAMES * n for n in range(1, 7)]
    assert late.auditor.audits
    assert late.auditor.audits.items() <= whole.auditor.audits.items()


@pytest.mark.parametrize("index", [0, AUDIT_ACCOUNTS, ACCOUNTS - 1])
def test_one_unit_too_many_in_any_account_shows_within_a_round(index: int) -> None:
    good, bad = Replica(), Replica()
    rounds = ACCOUNTS // AUDIT_ACCOUNTS + 2
    for batch in batches(rounds * AUDIT_FRAMES):
        good.apply(batch)
        bad.apply(batch)
        if bad.state.position == 1:
            bad.state.accounts[f"a{index}"].credits += 1
    assert good.auditor.audits != bad.auditor.audits
    assert dissent(bad.auditor.audits, [good.auditor.audits, good.auditor.audits]) is not None
    assert dissent(good.auditor.audits, [good.auditor.audits, bad.auditor.audits]) is None


def test_a_node_that_decided_otherwise_differs_for_ever() -> None:
    good, bad = Replica(), Replica()
    frames = batches(4 * AUDIT_FRAMES)
    for batch in frames:
        good.apply(batch)
        if bad.state.position == 10:
            bad.state.outcomes_digest = bytes(32)
        bad.apply(batch)
    assert all(good.auditor.audits[position] != digest for position, digest in bad.auditor.audits.items())


@pytest.mark.parametrize(
    ("own", "others", "position"),
    [
        ({64: "x"}, [], None),
        ({64: "x"}, [{64: "y"}], None),  # two that differ: nobody can tell who is right
        ({64: "x"}, [{64: "y"}, {64: "y"}], 64),
        ({64: "x"}, [{64: "x"}, {64: "y"}], None),
        ({64: "x"}, [{64: "x"}, {64: "y"}, {64: "y"}], None),  # no majority
        ({64: "x"}, [{64: "y"}, {64: "z"}, {64: "w"}], None),
        ({64: "x"}, [{64: "x"}, {64: "y"}, {64: "y"}, {64: "y"}], 64),
        ({64: "a", 128: "x"}, [{64: "a", 128: "y"}, {128: "y"}], 128),
        ({64: "x"}, [{128: "y"}, {128: "y"}], None),  # nothing in common
    ],
)
def test_only_a_minority_takes_itself_out(
    own: dict[int, str], others: list[dict[int, str]], position: int | None
) -> None:
    assert dissent(own, others) == position
