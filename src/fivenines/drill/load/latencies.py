"""How long requests took: histograms that keep the worst as exactly as the usual, and what clients saw, slice by slice.

A mean hides a pause, and a list of all latencies grows for ever. A histogram with a high dynamic range (Gil Tene's
HdrHistogram) has buckets whose width grows with what is in them: here three significant digits from a microsecond to
more than an hour, so a percentile is off by less than 0.1 %, in a few kilobytes. Two of them are added up without loss,
which no two percentiles can be. Its compressed form is the one of HdrHistogram (V2), so that the tools which exist for
it read ours.

The package of that name on PyPI was weighed: it is compiled, and brings setuptools and pbr into whatever uses it.

Latencies count from when a request was due, so nobody has to correct them for requests that were never made
("coordinated omission").
"""

import base64
import math
import struct
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, Self

from fivenines.drill.load.asked import Asked
from fivenines.drill.results import Slice

__all__ = ["PERCENTILES", "Histogram", "Latencies", "latencies_of", "slices"]

PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9, 99.99, 100.0)

_BITS: Final = 11
"""2,048 steps of 1 are told apart before the width doubles: three significant digits."""
_STEPS: Final = 1 << _BITS
_HALF: Final = _STEPS // 2
_HIGHEST: Final = 1 << 32
"""Microseconds: more than an hour. What is longer is counted as this."""
_COOKIE: Final = 0x1C849303 | 0x10
_COOKIE_COMPRESSED: Final = 0x1C849304 | 0x10
_HEAD: Final = struct.Struct(">iiiiqqd")
_HEAD_COMPRESSED: Final = struct.Struct(">ii")
_DIGITS: Final = 3
_PACKED_BYTES_MAX: Final = 16 * 1024 * 1024


def _bucket(value: int) -> int:
    """Return the number of the bucket that a value belongs to."""
    doubled = max(0, value.bit_length() - _BITS)
    return doubled * _HALF + (value >> doubled)


def _values(bucket: int) -> tuple[int, int]:
    """Return the least and the greatest value that belong to a bucket."""
    doubled = max(0, bucket // _HALF - 1)
    least = (bucket - doubled * _HALF) << doubled
    return least, least + (1 << doubled) - 1


class Histogram:
    """How often which whole number above or equal to 0 was seen, to three significant digits."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self.count = 0
        """How many were seen."""
        self.highest = 0
        """The greatest of them, exactly where it was counted here, to three digits where it came from elsewhere."""

    def add(self, value: int, times: int = 1) -> None:
        """Count a value. Raises ValueError below 0; what is above the highest that there can be counts as that."""
        if value < 0:
            raise ValueError(f"a value must be at least 0, not {value}")
        value = min(value, _HIGHEST)
        bucket = _bucket(value)
        self._counts[bucket] = self._counts.get(bucket, 0) + times
        self.count += times
        self.highest = max(self.highest, value)

    def merge(self, other: Self) -> None:
        """Count all that another has counted."""
        for bucket, times in other._counts.items():
            self._counts[bucket] = self._counts.get(bucket, 0) + times
        self.count += other.count
        self.highest = max(self.highest, other.highest)

    def percentile(self, percent: float) -> int:
        """Return a value that so many percent of all were not above, to three digits; 0 where there are none."""
        if not 0 <= percent <= 100:
            raise ValueError(f"a percentile must be from 0 to 100, not {percent:g}")
        wanted, seen = max(1, math.ceil(self.count * percent / 100 - 1e-9)), 0
        for bucket, times in sorted(self._counts.items()):
            seen += times
            if seen >= wanted:
                return min(_values(bucket)[1], self.highest)
        return 0

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Give (the greatest value of a bucket, how many are in it), from the least on."""
        for bucket, times in sorted(self._counts.items()):
            yield _values(bucket)[1], times

    def __eq__(self, other: object) -> bool:
        """Tell whether the same was counted, as far as anybody can tell."""
        return isinstance(other, Histogram) and self._counts == other._counts

    __hash__ = None  # type: ignore[assignment]  # it changes

    def pack(self) -> str:
        """Write it as text, in the compressed form of HdrHistogram V2."""
        body, at = bytearray(), 0
        for bucket, times in sorted(self._counts.items()):
            if bucket > at:
                _put(body, at - bucket)  # so many empty ones
            _put(body, times)
            at = bucket + 1
        head = _HEAD.pack(_COOKIE, len(body), 0, _DIGITS, 1, _HIGHEST, 1.0)
        packed = zlib.compress(head + bytes(body))
        return base64.b64encode(_HEAD_COMPRESSED.pack(_COOKIE_COMPRESSED, len(packed)) + packed).decode()

    @classmethod
    def unpack(cls, text: str) -> Self:
        """Read what `pack` has written. Raises ValueError for anything else."""
        made = cls()
        try:
            packed = base64.b64decode(text, validate=True)
            cookie, size = _HEAD_COMPRESSED.unpack_from(packed)
            unzip = zlib.decompressobj()
            raw = unzip.decompress(packed[_HEAD_COMPRESSED.size :], _PACKED_BYTES_MAX)
            inner, length, offset, digits, lowest, _highest, _ratio = _HEAD.unpack_from(raw)
        except (ValueError, struct.error, zlib.error) as error:
            raise ValueError(f"this is no packed histogram: {error}") from error
        if (cookie, inner) != (_COOKIE_COMPRESSED, _COOKIE) or size != len(packed) - _HEAD_COMPRESSED.size:
            raise ValueError("this is no packed histogram of HdrHistogram V2")
        if (offset, digits, lowest) != (0, _DIGITS, 1) or length != len(raw) - _HEAD.size:
            raise ValueError(f"a histogram with {_DIGITS} digits from 1 on is wanted, not {digits} from {lowest} on")
        bucket, limit = 0, _bucket(_HIGHEST)
        for number in _numbers(raw[_HEAD.size :]):
            if number <= 0:
                bucket += -number or 1
                continue
            if bucket > limit:
                raise ValueError("this is no packed histogram: it has too many buckets")
            made._counts[bucket] = number
            made.count += number
            made.highest = min(_values(bucket)[1], _HIGHEST)
            bucket += 1
        return made


def _put(body: bytearray, number: int) -> None:
    """Write a number in zigzag LEB128: small ones in one byte, of either sign."""
    left = (number << 1) ^ (number >> 63)
    for _ in range(8):
        if left < 0x80:
            body.append(left)
            return
        body.append(left & 0x7F | 0x80)
        left >>= 7
    body.append(left)  # the ninth byte has eight bits


def _numbers(body: bytes) -> Iterator[int]:
    at = 0
    while at < len(body):
        read = 0
        for shift in range(0, 63, 7):
            if at >= len(body):
                raise ValueError("this is no packed histogram: it breaks off")
            byte, at = body[at], at + 1
            if shift == 56:
                read |= byte << shift
                break
            read |= (byte & 0x7F) << shift
            if byte < 0x80:
                break
        yield (read >> 1) ^ -(read & 1)


class Latencies:
    """What clients saw of a number of requests."""

    def __init__(self) -> None:
        self.answered = Histogram()
        """Microseconds from when it was due to its answer, of all that were answered."""
        self.late = Histogram()
        """Microseconds by which requests went out late: of all that went out."""
        self.asked = 0
        self.failed = 0
        """Given up without an answer, refused ones among them."""
        self.refused = 0
        """Turned away, and surely not done."""
        self.slow = 0
        """Answered, but after longer than a client should wait."""
        self.longest_s = 0.0
        """The longest that anybody waited, for an answer or in vain."""

    def add(self, asked: Asked) -> None:
        """Count a request that has ended."""
        self.asked += 1
        if math.isfinite(asked.latency_s):
            self.longest_s = max(self.longest_s, asked.latency_s)
        if math.isfinite(asked.sent):
            self.late.add(_microseconds(asked.sent - asked.due))
        if asked.error or not math.isfinite(asked.ended):
            self.failed += 1
            self.refused += asked.is_refused
            return
        self.slow += asked.is_bad
        self.answered.add(_microseconds(asked.latency_s))

    def merge(self, other: Self) -> None:
        """Count all that another has counted."""
        self.answered.merge(other.answered)
        self.late.merge(other.late)
        self.asked += other.asked
        self.failed += other.failed
        self.refused += other.refused
        self.slow += other.slow
        self.longest_s = max(self.longest_s, other.longest_s)

    def percentiles_ms(self) -> dict[float, float]:
        """Return how long those who were answered waited, by percentile."""
        return {percent: self.answered.percentile(percent) / 1_000 for percent in PERCENTILES}


def latencies_of(asked: Iterable[Asked]) -> Latencies:
    """Count requests."""
    made = Latencies()
    for each in asked:
        made.add(each)
    return made


def slices(asked: Sequence[Asked], began: float, ended: float, *, width_s: float = 1.0) -> tuple[Slice, ...]:
    """Cut a stretch of the monotonic clock into slices, and say what clients saw of the requests due in each.

    The last slice is as long as the others, though the stretch may end within it. Failed requests count as waits, too:
    a client that gives up after 30 s has waited for 30 s.

    Raises:
        ValueError: a width that is not above 0.
    """
    if not width_s > 0:
        raise ValueError(f"width_s must be above 0, not {width_s:g}")
    number = max(0, math.ceil((ended - began) / width_s - 1e-9))
    parts: list[list[Asked]] = [[] for _ in range(number)]
    for each in asked:
        if began <= each.due < ended:
            parts[min(int((each.due - began) / width_s), number - 1)].append(each)
    return tuple(_slice(index * width_s, width_s, part) for index, part in enumerate(parts))


def _slice(at: float, width_s: float, part: Sequence[Asked]) -> Slice:
    waited = Histogram()
    counted = latencies_of(part)
    for each in part:
        if math.isfinite(each.latency_s):
            waited.add(_microseconds(each.latency_s))
    return Slice(
        at=at,
        width_s=width_s,
        asked=counted.asked,
        failed=counted.failed,
        slow=counted.slow,
        p50_ms=waited.percentile(50) / 1_000,
        p99_ms=waited.percentile(99) / 1_000,
        longest_ms=counted.longest_s * 1_000,
    )


def _microseconds(seconds: float) -> int:
    return max(0, round(seconds * 1_000_000))
