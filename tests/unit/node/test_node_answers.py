"""Answers to rows are laid out by hand where all fare alike: byte for byte what the encoder would have made."""

import msgspec
import pytest

from fivenines.api import RowResult
from fivenines.ids import new_ids16
from fivenines.ledger import Outcome, PostOne
from fivenines.node.answers import row_results
from fivenines.node.requests import Parsed
from fivenines.node.writer import Receipt


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 300, 8_000])
@pytest.mark.parametrize("outcome", [Outcome.posted, Outcome.insufficient_funds])
@pytest.mark.parametrize("position", [1, 127, 128, 70_000, 2**40])
def test_rows_that_fare_alike_are_answered_as_the_encoder_would(count: int, outcome: Outcome, position: int) -> None:
    ids = new_ids16(count)
    parsed = Parsed([PostOne(id, "a", "b", 1) for id in ids], is_array=True)
    answer = row_results(parsed, Receipt(position, [int(outcome)] * count, {}))
    assert answer.body == msgspec.msgpack.encode([RowResult(id, outcome.name, position) for id in ids])


def test_rows_that_fare_differently_are_answered_each_for_itself() -> None:
    ids = new_ids16(3)
    parsed = Parsed([PostOne(id, "a", "b", 1) for id in ids], is_array=True)
    answer = row_results(parsed, Receipt(9, [0, int(Outcome.id_reused), 0], {2: 4}))
    assert msgspec.msgpack.decode(answer.body, type=list[RowResult]) == [
        RowResult(ids[0], "posted", 9),
        RowResult(ids[1], "id_reused", 9),
        RowResult(ids[2], "posted", 4),
    ]
