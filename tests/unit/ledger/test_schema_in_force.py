"""Which schema frames are written in, and what happens to what an older one cannot say. The next schema is planted."""

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from fivenines.ledger import (
    RULES,
    SCHEMA,
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
    decode,
    encode,
    need_of,
)
from fivenines.ledger.codec import NEEDS, Need
from fivenines.ledger.downcasters import DOWNCASTERS
from fivenines.ledger.upcasters import UPCASTERS

ID = bytes.fromhex("01900000000070008000000000000001")
BATCH = Batch(bytes(16), 1, 1_760_000_000_000_000, [RegisterAsset("EUR/2"), PostOne(ID, "a", "b", 2**61)])
OLDER = SCHEMA - 1


def take_the_time_away(batch: list[Any]) -> list[Any]:
    """As if the schema before this one had had no time."""
    return [batch[0], batch[1], batch[3]]


def put_a_time_in(batch: list[Any]) -> list[Any]:
    return [batch[0], batch[1], 5, batch[2]]


def test_a_frame_of_the_schema_before_is_what_its_downcaster_makes_of_it() -> None:
    payload = encode(BATCH, schema=OLDER, downcasters={SCHEMA: take_the_time_away})
    assert payload[0] == OLDER
    read = decode(payload, upcasters={OLDER: put_a_time_in})
    assert (read.time_us, list(read.commands)) == (5, list(BATCH.commands))


def test_integers_beyond_64_bits_survive_the_way_down_and_up() -> None:
    batch = Batch(bytes(16), 1, 5, [OpenAccount("a", "EUR/2", -(2**126), 2**126)])
    payload = encode(batch, schema=OLDER, downcasters={SCHEMA: take_the_time_away})
    assert decode(payload, upcasters={OLDER: put_a_time_in}) == batch


def test_the_newest_schema_goes_through_no_downcaster() -> None:
    assert encode(BATCH, schema=SCHEMA, downcasters={}) == encode(BATCH)


def test_a_command_says_what_it_needs_only_if_it_uses_it() -> None:
    needs: dict[type, Callable[[Any], Need | None]] = {
        PostOne: lambda command: Need(3, "amount") if command.amount > 2**60 else None
    }
    assert need_of(BATCH.commands[1], needs=needs) == Need(3, "amount")
    assert need_of(PostOne(ID, "a", "b", 1), needs=needs) is None
    assert need_of(BATCH.commands[0], needs=needs) is None


@pytest.mark.parametrize("version", sorted(RULES))
def test_rules_in_force_name_a_schema_that_can_be_written_and_read(version: int) -> None:
    """Every schema between theirs and ours has a downcaster to it, and an upcaster back."""
    schema = RULES[version].schema
    assert schema <= SCHEMA
    assert all(newer in DOWNCASTERS for newer in range(schema + 1, SCHEMA + 1))
    assert all(older in UPCASTERS for older in range(schema, SCHEMA))
    assert decode(encode(BATCH, schema=schema)) == BATCH


SAID_BY_SCHEMA_2: dict[type[msgspec.Struct], str] = {
    Batch: "writer sequence time_us commands",
    Posting: "source destination amount",
    PostOne: "id source destination amount",
    Post: "id postings effective_date reference metadata",
    Hold: "id postings timeout_us effective_date reference metadata",
    Settle: "id hold postings final effective_date reference metadata",
    Release: "id hold effective_date reference metadata",
    OpenAccount: "account asset min_balance max_balance metadata",
    ChangeAccount: "id account status limits metadata",
    RegisterAsset: "asset",
    Activate: "rules",
}


def test_whatever_schema_2_cannot_say_has_a_need() -> None:
    """Or a downcaster would drop it, while nodes of the release before are still there."""
    assert set(SAID_BY_SCHEMA_2) <= {*Command.__args__, Batch, Posting}
    for kind in (*Command.__args__, Batch, Posting):
        said = tuple(SAID_BY_SCHEMA_2.get(kind, "").split())
        assert kind.__struct_fields__[: len(said)] == said, "fields are added at the end, and none ever goes"
        assert kind.__struct_fields__ == said or kind in NEEDS, f"{kind.__name__} says more, and needs no newer schema"


def test_only_what_came_after_the_oldest_schema_that_is_written_is_needed() -> None:
    assert not NEEDS or min(rules.schema for rules in RULES.values()) < SCHEMA
