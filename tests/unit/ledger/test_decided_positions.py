"""Where an id was decided: kept as a distance of 16 or 32 bits, and given up rather than told wrong."""

import pytest

from fivenines.ledger import decided
from fivenines.ledger.decided import Block, Decided, DecidedIds, pack

FAR = 2**32 - 1


def make_id(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.mark.parametrize(
    ("position", "told"),
    [
        (1_000, 1_000),
        (1_000 + FAR - 1, 1_000 + FAR - 1),
        (1_000 + FAR, None),
        (1_000 + FAR + 1, None),
        (2**63, None),
        (999, None),
        (1, None),
    ],
)
def test_a_late_id_in_a_block_keeps_its_position_while_32_bits_bear_it(position: int, told: int | None) -> None:
    block = Block(make_id(1) + make_id(9), [0, 0], [0, 1], base=1_000)
    block.insert([make_id(5)], [pack(20, 77)], [position])
    assert block.find(make_id(5)) == Decided(20, 77, told)
    assert (block.find(make_id(1)), block.find(make_id(9))) == (Decided(0, 0, 1_000), Decided(0, 0, 1_001))


def test_a_block_sealed_over_an_immense_gap_gives_up_the_far_positions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decided, "_BLOCK_IDS", 2)
    monkeypatch.setattr(decided, "_SEAL_IDS", 2)
    monkeypatch.setattr(decided, "_TAIL_IDS_MAX", 2)
    ids = DecidedIds()
    for number, position in ((1, 10), (2, 10 + FAR), (3, 11 + FAR)):
        ids.add(make_id(number), pack(0, number), position)
    ids.seal()
    assert [found.position for _, found in ids.entries()] == [10, None, 11 + FAR]


def test_what_an_id_is_packed_into_leaves_room_for_every_outcome_and_fingerprint() -> None:
    highest = pack(63, decided.FINGERPRINT_PRIME - 1)
    assert highest < 2**32
    block = Block(make_id(1), [highest], [0], base=1)
    assert block.find(make_id(1)) == Decided(63, decided.FINGERPRINT_PRIME - 1, 1)


@pytest.mark.parametrize(("positions_apart", "bytes_an_id"), [(0, 22), (1, 22), (9, 24)])
def test_a_sealed_id_takes_22_bytes_or_24_where_positions_lie_far_apart(positions_apart: int, bytes_an_id: int) -> None:
    ids = DecidedIds()
    for number in range(32_769):
        ids.add(make_id(number), pack(0, number), 1 + number * positions_apart)
    ids.seal()
    assert [len(block) for block in ids.blocks] == [8_192] * 3
    block = ids.blocks[0]
    size = len(block.ids) + block.values.itemsize * len(block.values) + block.distances.itemsize * len(block.distances)
    assert size == bytes_an_id * 8_192
    assert ids.find(make_id(8_000)) == Decided(0, 8_000, 1 + 8_000 * positions_apart)


def test_what_was_never_decided_is_not_found() -> None:
    ids = DecidedIds()
    assert ids.find(make_id(0)) is None
    ids.add(make_id(5), 0, 1)
    assert [ids.find(make_id(number)) for number in (0, 4, 6)] == [None] * 3


def test_a_reader_leaves_nothing_behind_that_the_next_decision_goes_by() -> None:
    """He may look from another thread at half of a change: what he finds missing must not be taken for missing."""
    ids = DecidedIds()
    for number in (1, 9):
        ids.add(bytes(15) + bytes([number]), 0, 1)
    ids.seal()
    between = bytes(15) + bytes([5])
    assert ids.find(between) is None
    remembered = (ids._gap_from, ids._gap_to)
    assert remembered == (b"", b"")
    assert ids.seek(between) is None
    ids.add(between, 0, 2)
    assert ids.find(between) is not None
    ids.seal()
    assert ids.seek(between) is not None
