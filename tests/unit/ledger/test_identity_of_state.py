"""What is part of the state for ever: numbers of outcomes, fingerprints, digests. A change here breaks old journals."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fivenines.ledger import (
    AMOUNT_MAX,
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
    State,
    apply,
    digest,
    encode,
)
from fivenines.ledger import rules as rules_module
from fivenines.ledger.accounts import salt_of
from fivenines.ledger.decided import FINGERPRINT_PRIME
from fivenines.ledger.rules import fingerprint
from tests.unit.ledger.world import make_id, make_world, posts

ROOT = Path(__file__).resolve().parents[3]
ID, OTHER_ID = bytes(16), bytes(15) + b"\x01"

OUTCOME_NUMBERS = {
    "posted": 0,
    "held": 1,
    "settled": 2,
    "released": 3,
    "done": 4,
    "id_reused": 8,
    "id_expired": 9,
    "id_in_future": 10,
    "asset_unknown": 11,
    "asset_exists": 12,
    "account_unknown": 13,
    "account_exists": 14,
    "account_frozen": 15,
    "account_closed": 16,
    "account_not_empty": 17,
    "same_account": 18,
    "asset_mismatch": 19,
    "insufficient_funds": 20,
    "balance_limit_exceeded": 21,
    "total_overflow": 22,
    "hold_unknown": 23,
    "hold_already_settled": 24,
    "hold_already_released": 25,
    "hold_expired": 26,
    "hold_exceeded": 27,
    "rules_not_newer": 28,
    "limits_conflict": 29,
    "malformed": 30,
}

FINGERPRINTS: list[tuple[Command, int]] = [
    (PostOne(ID, "a", "b", 1), 55_782_218),
    (PostOne(ID, "b", "a", 1), 11_326_643),
    (PostOne(ID, "customers:alice", "bank", 2**62 - 1), 48_932_154),
    (Post(ID, (Posting("a", "b", 1), Posting("b", "c", 2**100))), 14_990_104),
    (Post(ID, (Posting("a", "b", 1),), "2026-01-31", "rent", b"{}"), 46_536_979),
    (Post(ID, ()), 9_790_014),
    (Hold(ID, (Posting("a", "b", 1),)), 35_181_724),
    (Hold(ID, (Posting("a", "b", 1),), 1_000_000), 44_178_237),
    (Settle(ID, OTHER_ID), 13_865_121),
    (Settle(ID, OTHER_ID, final=False), 57_792_930),
    (Settle(ID, OTHER_ID, (Posting("a", "b", 1),), metadata=b"{}"), 59_995),
    (Release(ID, OTHER_ID), 60_033_205),
    (OpenAccount("a", "EUR/2"), 52_826_998),
    (OpenAccount("a", "EUR/2", None, AMOUNT_MAX, b"{}"), 40_271_088),
    (ChangeAccount(ID, "a", 1), 19_688_802),
    (ChangeAccount(ID, "a", 0, (None, -5), b"{}"), 57_786_560),
]
SALTS = {"": 1_029_752_036_516_141_867, "a": 292_604_111_364_711_458, "customers:alice": 843_173_319_277_234_387}
OUTCOMES_DIGEST = "b614d66c86d1504b73f326647c4ba0211adefbd272dc89a5e441683eb44903be"
STATE_DIGEST = "4bdcb6c25a8263512466bc9b751b48c2e5feb5a341a241df2fe93eb71daaea94"


def test_the_numbers_of_outcomes_are_pinned() -> None:
    assert {outcome.name: outcome.value for outcome in Outcome} == OUTCOME_NUMBERS


def test_an_outcome_is_a_refusal_from_eight_on() -> None:
    assert [outcome.name for outcome in Outcome if not outcome.is_refusal] == [
        "posted",
        "held",
        "settled",
        "released",
        "done",
    ]


@pytest.mark.parametrize(("command", "number"), FINGERPRINTS)
def test_the_fingerprint_of_a_content_is_pinned(command: Command, number: int) -> None:
    assert fingerprint(command) == number
    assert 0 <= number < FINGERPRINT_PRIME


def test_the_salts_of_account_ids_are_pinned() -> None:
    assert {id: salt_of(id) for id in SALTS} == SALTS


def test_a_fingerprint_does_not_show_the_id() -> None:
    for command, number in FINGERPRINTS:
        if not isinstance(command, OpenAccount):
            assert fingerprint(msgspec.structs.replace(command, id=OTHER_ID)) == number


def test_fingerprints_of_different_contents_differ() -> None:
    assert len({number for _, number in FINGERPRINTS}) == len(FINGERPRINTS)


@pytest.mark.parametrize("amount", [1, 2**62 - 1])
def test_the_short_form_and_the_long_form_have_one_fingerprint(amount: int) -> None:
    assert fingerprint(PostOne(ID, "a", "b", amount)) == fingerprint(Post(ID, posts("a", "b", amount)))


@pytest.mark.parametrize("command", [command for command, _ in FINGERPRINTS if not isinstance(command, PostOne)])
def test_whatever_a_command_says_shows_in_its_fingerprint(command: Command) -> None:
    _, fields = rules_module._SPELLINGS[type(command)]
    for name, _ in fields:
        other = posts("a", "c", 1) if name == "postings" else "other"
        assert fingerprint(msgspec.structs.replace(command, **{name: other})) != fingerprint(command), name


def test_a_single_posting_has_the_short_fingerprint_only_if_nothing_else_is_said() -> None:
    plain = Post(ID, posts("a", "b", 1))
    for field in msgspec.structs.fields(Post)[2:]:
        assert fingerprint(msgspec.structs.replace(plain, **{field.name: "other"})) != fingerprint(plain), field.name


def test_a_field_added_later_changes_no_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    # As a later release would have it: Hold has one more field, which old frames leave at its default.
    tag, fields = rules_module._SPELLINGS[Hold]
    monkeypatch.setitem(rules_module._SPELLINGS, Hold, (tag, [*fields, ("__struct_fields__", Hold.__struct_fields__)]))
    for command, number in FINGERPRINTS:
        assert fingerprint(command) == number


JOURNAL: list[Batch] = [
    Batch(
        b"w" * 16,
        1,
        1_760_000_000_000_000,
        [
            RegisterAsset("EUR/2"),
            OpenAccount("bank", "EUR/2", None),
            OpenAccount("alice", "EUR/2", metadata=b"{}"),
            PostOne(make_id(1), "bank", "alice", 500),
            PostOne(make_id(2), "alice", "bank", 501),
            Hold(make_id(3), posts("alice", "bank", 100), timeout_us=1_000_000),
            Hold(make_id(4), posts("alice", "bank", 50)),
            Post(make_id(5), (Posting("bank", "alice", 2**100), Posting("alice", "bank", 1))),
        ],
    ),
    Batch(
        b"x" * 16, 1, 1_760_000_001_000_000, [Settle(make_id(6), make_id(4), posts("alice", "bank", 20), final=False)]
    ),
    Batch(b"w" * 16, 2, 0, []),
]


def replay(journal: list[Batch]) -> State:
    state = State()
    for batch in journal:
        apply(state, batch)
    return state


def test_the_digests_of_a_small_journal_are_pinned() -> None:
    state = replay(JOURNAL)
    assert state.outcomes_digest.hex() == OUTCOMES_DIGEST
    assert digest(state).hex() == STATE_DIGEST


def test_each_outcome_time_and_expiry_shows_in_the_outcomes_digest() -> None:
    seen = {replay(JOURNAL).outcomes_digest, replay(JOURNAL[:2]).outcomes_digest, State().outcomes_digest}
    later = msgspec.structs.replace(JOURNAL[2], time_us=1_760_000_001_000_002)
    other = msgspec.structs.replace(JOURNAL[2], commands=[Release(make_id(7), make_id(4))])
    seen |= {replay([*JOURNAL[:2], later]).outcomes_digest, replay([*JOURNAL[:2], other]).outcomes_digest}
    assert len(seen) == 5


IN_ANOTHER_PROCESS = """
import sys
from fivenines.ledger import State, apply, decode, digest
state = State()
for line in sys.stdin:
    apply(state, decode(bytes.fromhex(line)))
print(state.outcomes_digest.hex(), digest(state).hex(), *state.accounts, *map(bytes.hex, state.holds))
"""


def test_processes_with_other_hash_seeds_reach_the_same_state() -> None:
    frames = "\n".join(encode(batch).hex() for batch in JOURNAL)
    told = [
        subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            input=frames,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT / "src")},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        ).stdout.split()
        for seed in ("0", "1", "4242")
    ]
    state = replay(JOURNAL)
    assert told == [[state.outcomes_digest.hex(), digest(state).hex(), "bank", "alice", make_id(4).hex()]] * 3


def test_worlds_made_twice_are_equal() -> None:
    assert digest(make_world()) == digest(make_world())
