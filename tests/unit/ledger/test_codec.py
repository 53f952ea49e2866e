"""The bytes of a frame: pinned, since frames that were ever written are read for ever."""

import pytest

from fivenines.ledger import (
    AMOUNT_MAX,
    SCHEMA,
    Activate,
    Batch,
    ChangeAccount,
    CodecError,
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
)

ID = bytes.fromhex("0199c82cc00070008000000000000001")
HOLD = bytes.fromhex("0199c82cc00070008000000000000002")

ONE_OF_EACH: list[Command] = [
    PostOne(ID, "a", "b", 5),
    Post(ID, (Posting("a", "b", 2**64), Posting("b", "c", 7)), "2026-01-31", "rent", b"{}"),
    Hold(HOLD, (Posting("a", "b", 9),), 1_000_000),
    Settle(ID, HOLD, (Posting("a", "b", 4),), final=False),
    Release(ID, HOLD),
    OpenAccount("a", "EUR/2", -(2**63) - 1, AMOUNT_MAX),
    ChangeAccount(ID, "a", 1, (None, 100), b"{}"),
    RegisterAsset("EUR/2"),
    Activate(2),
]
BATCH = Batch(bytes(range(16)), 3, 1_760_000_000_000_000, ONE_OF_EACH)
GOLDEN = (
    "0294c410000102030405060708090a0b0c0d0e0f03cf000640b5eece0000999500c4100199c82cc000700080000000000000"
    "01a161a162059601c4100199c82cc000700080000000000000019293a161a162c41000000000000000010000000000000000"
    "93a162a16307aa323032362d30312d3331a472656e74c4027b7d9702c4100199c82cc000700080000000000000029193a161"
    "a16209ce000f4240c0c0c09803c4100199c82cc00070008000000000000001c4100199c82cc0007000800000000000000291"
    "93a161a16204c2c0c0c09604c4100199c82cc00070008000000000000001c4100199c82cc00070008000000000000002c0c0"
    "c09605a161a54555522f32c410ffffffffffffffff7fffffffffffffffc4107fffffffffffffffffffffffffffffffc09606"
    "c4100199c82cc00070008000000000000001a1610192c064c4027b7d9207a54555522f32920802"
)

# Written by hand: a settlement of schema 1 is [3, id, hold, postings, effective_date, reference, metadata].
SCHEMA_1 = bytes.fromhex(
    "01"  # the schema
    "94"  # a batch of four
    "c410000102030405060708090a0b0c0d0e0f"  # writer
    "03"  # sequence
    "cf000640b5eece0000"  # time_us
    "92"  # two commands
    "9500c4100199c82cc00070008000000000000001a161a16205"  # PostOne: as it still is
    "9703"  # Settle
    "c4100199c82cc00070008000000000000001"  # id
    "c4100199c82cc00070008000000000000002"  # hold
    "9193a161a16204"  # one posting
    "aa323032362d30312d3331a472656e74c0"  # effective_date, reference, metadata
)  # fmt: skip


def test_the_bytes_of_schema_2_are_pinned() -> None:
    assert SCHEMA == 2
    assert encode(BATCH).hex() == GOLDEN
    assert decode(bytes.fromhex(GOLDEN)) == BATCH


def test_a_settlement_of_schema_1_is_read_as_final() -> None:
    assert decode(SCHEMA_1) == Batch(
        bytes(range(16)),
        3,
        1_760_000_000_000_000,
        [
            PostOne(ID, "a", "b", 5),
            Settle(ID, HOLD, (Posting("a", "b", 4),), final=True, effective_date="2026-01-31", reference="rent"),
        ],
    )


def test_a_short_settlement_of_schema_1_is_read_as_final_and_as_of_everything() -> None:
    short = bytes.fromhex("0194c4000301919303c410" + ID.hex() + "c410" + HOLD.hex())
    with pytest.raises(CodecError):
        decode(short[:-1])
    assert decode(short).commands == [Settle(ID, HOLD, (), final=True)]


@pytest.mark.parametrize("command", ONE_OF_EACH, ids=lambda command: type(command).__name__)
def test_each_command_survives_the_way_through_bytes(command: Command) -> None:
    batch = Batch(b"", 0, 0, [command])
    assert decode(encode(batch)) == batch


@pytest.mark.parametrize(
    "number",
    [
        0,
        1,
        -1,
        2**62,
        2**63 - 1,
        2**63,
        2**64 - 1,
        2**64,
        2**126,
        AMOUNT_MAX,
        -(2**63),
        -(2**63) - 1,
        -AMOUNT_MAX,
        -(2**127),
    ],
)
def test_an_integer_of_any_size_up_to_128_bits_survives(number: int) -> None:
    commands: list[Command] = [
        Post(ID, (Posting("a", "b", number),)),
        Hold(ID, (Posting("a", "b", 1), Posting("a", "b", number))),
        Settle(ID, HOLD, (Posting("a", "b", number),)),
        OpenAccount("a", "EUR/2", number, None),
        OpenAccount("a", "EUR/2", None, number),
        ChangeAccount(ID, "a", limits=(number, None)),
        ChangeAccount(ID, "a", limits=(None, number)),
    ]
    batch = Batch(b"", 0, 0, commands)
    assert decode(encode(batch)) == batch


@pytest.mark.parametrize("number", [2**127, -(2**127) - 1])
def test_an_integer_beyond_128_bits_cannot_be_written(number: int) -> None:
    with pytest.raises(OverflowError):
        encode(Batch(b"", 0, 0, [Post(ID, (Posting("a", "b", number),))]))


@pytest.mark.parametrize("schema", [0, 3, 4, 255])
def test_an_unknown_schema_is_refused_by_its_number(schema: int) -> None:
    with pytest.raises(CodecError, match=f"schema {schema} is unknown") as caught:
        decode(bytes([schema]) + encode(BATCH)[1:])
    assert caught.value.schema == schema


def test_an_empty_payload_names_no_schema() -> None:
    with pytest.raises(CodecError, match="empty") as caught:
        decode(b"")
    assert caught.value.schema is None


HEAD = "94c4000000"  # a batch of no writer, sequence 0, time 0, and then its commands
DAMAGED = {
    "nothing after the schema": "",
    "not a list": "c0",
    "trailing bytes": HEAD + "9000",
    "a field too many in the batch": "95c400000090c0",
    "a field too many in a command": HEAD + "919307a54555522f3201",
    "a field too few": HEAD + "919107",
    "an unknown command": HEAD + "919209a54555522f32",
    "a command without a tag": HEAD + "9190",
    "text that is not UTF-8": HEAD + "919207a2ffff",
    "an id of fifteen bytes": HEAD + "919500c40f" + "00" * 15 + "a161a16205",
    "a short form of the amount 0": HEAD + "919500c410" + "00" * 16 + "a161a16200",
    "a short form of 2^62": HEAD + "919500c410" + "00" * 16 + "a161a162cf4000000000000000",
    "an amount that is a float": HEAD + "919500c410" + "00" * 16 + "a161a162cb3ff0000000000000",
    "an amount of fifteen bytes": HEAD + "919301c410" + "00" * 16 + "9193a161a162c40f" + "00" * 15,
    "an account name of 129 characters": HEAD + "919500c410" + "00" * 16 + "d981" + "61" * 129 + "a16205",
    "a list that claims four billion items": HEAD + "ddffffffff",
    "lists in lists without end": HEAD + "919307a54555522f32" + "91" * 100_000,
}  # fmt: skip


@pytest.mark.parametrize("body", DAMAGED.values(), ids=DAMAGED.keys())
@pytest.mark.parametrize("schema", [1, 2])
def test_a_damaged_body_is_a_codec_error_that_names_its_schema(schema: int, body: str) -> None:
    with pytest.raises(CodecError) as caught:
        decode(bytes([schema]) + bytes.fromhex(body))
    assert caught.value.schema == schema


def test_lists_in_lists_without_end_are_refused_in_an_older_schema_too() -> None:
    with pytest.raises(CodecError):
        decode(b"\x01" + b"\x91" * 100_000)
