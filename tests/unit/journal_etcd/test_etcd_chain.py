"""The chain: the same frames for every reader, however it is told of the pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from fivenines.journal import Frame
from fivenines.journal.etcd.chain import Chain, MissedError
from fivenines.journal.etcd.layout import LayoutError, Place, pack_piece, parse_piece, split_payload
from fivenines.journal.format import DIGEST_NONE, pack_frame


class Event(Struct, frozen=True):
    """A piece as etcd tells of it."""

    lane: str
    number: int
    value: bytes
    revision: int


def take(chain: Chain, event: Event) -> Frame | None:
    piece = parse_piece(b"key", event.value)
    return chain.take(b"key", event.lane, event.number, piece, event.revision)


def take_all(chain: Chain, events: list[Event]) -> list[Frame]:
    return [frame for event in events if (frame := take(chain, event)) is not None]


def chained(payloads: list[bytes]) -> list[Frame]:
    frames, digest = [], DIGEST_NONE
    for position, payload in enumerate(payloads, start=1):
        _, _, digest = pack_frame(position, digest, payload)
        frames.append(Frame(position, payload, digest))
    return frames


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Event], list[bytes]]:
    """What etcd may hold: lanes side by side, payloads of several pieces, some given up half way.

    With it come the payloads of the frames, in their order.
    """
    to_write: dict[str, list[tuple[int, bytes, bytes | None]]] = {}
    for lane in "abc":
        number = previous = 0
        pieces: list[tuple[int, bytes, bytes | None]] = []
        for payload in draw(st.lists(st.binary(max_size=20), max_size=5)):
            parts = split_payload(payload, 6)
            written = draw(st.integers(1, len(parts)))
            for flags, part in parts[:written]:
                number += draw(st.integers(1, 3))
                done = payload if flags & 2 else None
                pieces.append((number, pack_piece(flags, previous, part), done))
                previous = number
        to_write[lane] = pieces
    events: list[Event] = []
    payloads: list[bytes] = []
    while left := [lane for lane, pieces in to_write.items() if pieces]:
        lane = draw(st.sampled_from(left))
        number, value, done = to_write[lane].pop(0)
        events.append(Event(lane, number, value, len(events) + 10))
        if done is not None:
            payloads.append(done)
    return events, payloads


@given(histories())
def test_frames_are_numbered_and_chained_in_the_order_of_the_pieces_that_complete_them(
    history: tuple[list[Event], list[bytes]],
) -> None:
    events, payloads = history
    chain = Chain(Place())
    assert take_all(chain, events) == chained(payloads)
    assert chain.position == len(payloads)
    assert chain.bytes == sum(map(len, payloads))


@given(histories(), st.data())
def test_who_goes_on_from_any_place_derives_the_same_frames(
    history: tuple[list[Event], list[bytes]], data: st.DataObject
) -> None:
    events, payloads = history
    chain = Chain(Place())
    before = take_all(chain, events[: data.draw(st.integers(0, len(events)))])
    # It reads the keys of each lane after the place, and so all pieces of frames that were not whole.
    place = chain.place
    rest = [event for event in events if event.number > place.lanes.get(event.lane, 0)]
    assert before + take_all(Chain(place), rest) == chained(payloads)


@given(histories(), st.data())
def test_what_is_told_again_is_recognised(history: tuple[list[Event], list[bytes]], data: st.DataObject) -> None:
    events, payloads = history
    chain = Chain(Place())
    frames: list[Frame] = []
    at = 0
    while at < len(events):
        again = data.draw(st.integers(0, at))
        frames += take_all(chain, events[again : at + 1])
        at += 1
    assert frames == chained(payloads)


@given(histories(), st.data())
def test_a_piece_that_is_left_out_is_missed_at_the_next_one_of_its_lane(
    history: tuple[list[Event], list[bytes]], data: st.DataObject
) -> None:
    events, _ = history
    if not events:
        return
    lost = events[data.draw(st.integers(0, len(events) - 1))]
    rest = [event for event in events if event != lost]
    later = [event for event in rest if event.lane == lost.lane and event.number > lost.number]
    chain = Chain(Place())
    if not later:
        take_all(chain, rest)
        assert chain.newest(lost.lane) < lost.number
        return
    with pytest.raises(MissedError):
        take_all(chain, rest)
    # Told what it missed, it goes on.
    take_all(chain, events)
    assert chain.newest(lost.lane) == later[-1].number


def test_a_frame_that_does_not_begin_with_its_first_piece_is_refused_and_changes_nothing() -> None:
    chain = Chain(Place())
    with pytest.raises(LayoutError):
        take(chain, Event("a", 1, pack_piece(2, 0, b"end"), 5))
    assert chain.place == Place()
    assert chain.newest("a") == 0


def test_a_lane_that_is_gone_is_no_part_of_later_places() -> None:
    chain = Chain(Place())
    take(chain, Event("a", 1, pack_piece(3, 0, b"x"), 5))
    take(chain, Event("b", 1, pack_piece(3, 0, b"y"), 6))
    chain.forget("a")
    chain.forget("never there")
    assert chain.place.lanes == {"b": 1}
    assert (chain.place.position, chain.place.revision) == (2, 6)
