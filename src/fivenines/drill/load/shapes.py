"""The shapes of a load: how many requests a second are due at which time, and when each of them is. Pure.

Every shape is drawn as a `Curve`: rates at a few times, straight lines between them. That is all that a load needs to
know of it, and it makes what follows exact: how many requests are due in a stretch of time is an area under straight
lines, and when the next one is due is the root of a quadratic equation.

Arrivals follow the curve in one of two ways. *Evenly* spaced, the n-th (from 0) is due when the area has come to n: in
no stretch of time there is one more or less than the area says. As a *Poisson* process they come as independent users
do: what is even in the area is made random by exponential gaps in it (the time-rescaling theorem; Cinlar, "Introduction
to Stochastic Processes", 1975, section 4.7), so in a stretch with the area A there are A on average, with a standard
deviation of the square root of A.

Times are seconds since the load began, rates are requests a second.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import Literal

from msgspec import Struct

__all__ = [
    "SHAPES",
    "Arrivals",
    "Curve",
    "Diurnal",
    "FlashSale",
    "MarketOpen",
    "Piece",
    "Ramp",
    "Recorded",
    "Shape",
    "Spike",
    "Steady",
    "arrivals",
]

Arrivals = Literal["even", "poisson"]

_LINES_A_WAVE = 96
"""Straight lines that a wave is drawn with: they leave it by less than 0.06 % of its height."""
_LINES_A_DECAY = 24
_HALVES = 8
"""Half-lives after which what decays is taken to be gone."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One straight line of a curve."""

    began: float
    ended: float
    """`math.inf`: for ever."""
    rate: float
    """At its beginning."""
    slope: float
    """What it grows by in each second."""
    before: float
    """The area under all that comes before it."""

    def area(self, seconds: float) -> float:
        """Return the area under its first seconds."""
        return seconds * (self.rate + self.slope * seconds / 2) if seconds else 0.0

    def seconds_to(self, area: float) -> float:
        """Return after how many of its seconds the area under it has come to this; `math.inf`: it never does."""
        if area <= 0:
            return 0.0
        root = self.rate * self.rate + 2 * self.slope * area
        below = self.rate + math.sqrt(max(0.0, root))
        return 2 * area / below if below > 0 else math.inf


class Curve:
    """Rates over time.

    Args:
        knots: (time, rate), from time 0 on, in order; the rate between two is on the straight line between them, and
            jumps where two have the same time.
        after: what comes after the last: the rate stays as it is, or it all begins again, or the load has ended.

    Raises:
        ValueError: they are not in order, or one is not finite, or below 0.
    """

    def __init__(
        self, knots: list[tuple[float, float]], *, after: Literal["stays", "repeats", "ends"] = "ends"
    ) -> None:
        if not knots or knots[0][0] != 0:
            raise ValueError("a curve has to begin at 0 s")
        for at, rate in knots:
            if not (math.isfinite(at) and math.isfinite(rate) and rate >= 0):
                raise ValueError(f"a rate must be finite and not below 0, not {rate} at {at} s")
        pieces, area = [], 0.0
        for (began, rate), (ended, last) in pairwise(knots):
            if ended < began:
                raise ValueError(f"a curve goes forward in time, not from {began} s to {ended} s")
            if ended > began:
                piece = Piece(began, ended, rate, (last - rate) / (ended - began), area)
                pieces.append(piece)
                area += piece.area(ended - began)
        self.seconds = math.inf if after == "stays" else knots[-1][0]
        """How long it takes, once."""
        if after == "stays":
            pieces.append(Piece(knots[-1][0], math.inf, knots[-1][1], 0.0, area))
            area = math.inf if knots[-1][1] else area
        self.repeats = after == "repeats" and self.seconds > 0
        self.pieces = tuple(pieces)
        self._once = area
        self._begins = [piece.began for piece in pieces]

    def rate(self, at: float) -> float:
        """Return the rate at a time; at a jump the one after it."""
        at, _ = self._within(at)
        piece = self._piece(at)
        return 0.0 if piece is None else max(0.0, piece.rate + piece.slope * (at - piece.began))

    def count(self, at: float) -> float:
        """Return how many requests are due before a time: the area under the curve until then."""
        at, before = self._within(at)
        piece = self._piece(at)
        if piece is None:
            return before + (self._once if at > 0 else 0.0)
        return before + piece.before + piece.area(at - piece.began)

    def _within(self, at: float) -> tuple[float, float]:
        """Return the same time in the first round, and the area of the rounds before."""
        if not self.repeats or at < 0:
            return at, 0.0
        rounds, at = divmod(at, self.seconds)
        return at, rounds * self._once

    def _piece(self, at: float) -> Piece | None:
        index = bisect_right(self._begins, at) - 1
        return self.pieces[index] if index >= 0 and at < self.pieces[index].ended else None

    def times(self, areas: Iterator[float]) -> Iterator[float]:
        """Yield the times at which the area has come to each of these, which ascend; ends where it never does."""
        began, round_area = 0.0, 0.0
        wanted = next(areas)
        while self.pieces:
            for piece in self.pieces:
                end = piece.area(piece.ended - piece.began) if piece.ended < math.inf else math.inf
                while (left := wanted - round_area - piece.before) < end:
                    seconds = piece.seconds_to(left)
                    if seconds == math.inf:
                        return
                    yield min(began + piece.began + seconds, began + piece.ended)
                    wanted = next(areas)
            if not self.repeats or self._once <= 0:
                return
            began, round_area = began + self.seconds, round_area + self._once


def arrivals(curve: Curve, *, seed: int = 0, kind: Arrivals = "even") -> Iterator[float]:
    """Yield the times at which requests are due, in order; the same for the same seed."""
    return curve.times(_even() if kind == "even" else _exponential(random.Random(seed)))


def _even() -> Iterator[float]:
    number = 0.0
    while True:
        yield number
        number += 1.0


def _exponential(chance: random.Random) -> Iterator[float]:
    area = 0.0
    while True:
        area += chance.expovariate(1.0)
        yield area


class Shape(Struct, frozen=True, kw_only=True, tag_field="shape", tag=str.lower):
    """What a load looks like over time."""

    def curve(self) -> Curve:
        """Draw it. Raises ValueError where its numbers make no sense."""
        raise NotImplementedError


def _checked(shape: Shape, *above_0: str) -> None:
    for name in shape.__struct_fields__:
        value = getattr(shape, name)
        if isinstance(value, float) and not (
            math.isfinite(value) and value >= 0 and (value > 0 or name not in above_0)
        ):
            raise ValueError(f"{name} must be {'above' if name in above_0 else 'at least'} 0, not {value:g}")


class Steady(Shape, frozen=True, kw_only=True):
    """The same rate for ever."""

    rate_per_s: float = 300.0

    def curve(self) -> Curve:
        """Draw it."""
        _checked(self, "rate_per_s")
        return Curve([(0.0, self.rate_per_s)], after="stays")


class Ramp(Shape, frozen=True, kw_only=True):
    """Growing evenly up to a rate, which then stays: how much can it take?"""

    rate_per_s: float = 300.0
    """At the end."""
    seconds: float = 60.0
    """How long it grows."""
    from_per_s: float = 0.0

    def curve(self) -> Curve:
        """Draw it."""
        _checked(self, "rate_per_s", "seconds")
        return Curve([(0.0, self.from_per_s), (self.seconds, self.rate_per_s)], after="stays")


class Diurnal(Shape, frozen=True, kw_only=True):
    """Days and nights, over and over: a wave that begins at its lowest."""

    rate_per_s: float = 300.0
    """On average."""
    seconds: float = 60.0
    """How long a day is."""
    swing: float = 0.8
    """How far it goes up and down, as a part of the average: 0 to 1."""

    def curve(self) -> Curve:
        """Draw it."""
        _checked(self, "rate_per_s", "seconds")
        if self.swing > 1:
            raise ValueError(f"swing must be at most 1, not {self.swing:g}")
        knots = []
        for line in range(_LINES_A_WAVE + 1):
            part = line / _LINES_A_WAVE
            knots.append((self.seconds * part, self.rate_per_s * (1 - self.swing * math.cos(2 * math.pi * part))))
        return Curve(knots, after="repeats")


class MarketOpen(Shape, frozen=True, kw_only=True, tag="market-open"):
    """Quiet until a bell, then from one moment to the next many times as much, which calms down slowly."""

    rate_per_s: float = 300.0
    """Just after the bell. Minutes at which stock markets open have 8 to 17 times the trades of the minute before."""
    seconds: float = 60.0
    """All of it; the bell rings after a quarter."""
    times: float = 12.0
    """How many times as much as before."""

    def curve(self) -> Curve:
        """Draw it."""
        _checked(self, "rate_per_s", "seconds", "times")
        quiet, bell = self.rate_per_s / self.times, self.seconds / 4
        day = max(quiet, self.rate_per_s / 4)
        half_life = self.seconds / 8
        return Curve([(0.0, quiet), (bell, quiet), *_decay(bell, self.seconds, self.rate_per_s, day, half_life)],
                     after="stays")  # fmt: skip


class FlashSale(Shape, frozen=True, kw_only=True, tag="flash-sale"):
    """Everybody comes within moments for something that is announced, and is gone when it is sold out."""

    rate_per_s: float = 300.0
    """At its highest."""
    seconds: float = 60.0
    """All of it: a fifth is before the sale, and they are all there within a hundredth more."""
    times: float = 10.0
    """How many times as much as on a usual day."""

    def curve(self) -> Curve:
        """Draw it."""
        _checked(self, "rate_per_s", "seconds", "times")
        usual, begin = self.rate_per_s / self.times, self.seconds / 5
        top = begin + self.seconds / 100
        sold_out = self.seconds * 3 / 5
        decay = _decay(sold_out, self.seconds, self.rate_per_s, usual, self.seconds / 40)
        return Curve([(0.0, usual), (begin, usual), (top, self.rate_per_s), *decay], after="stays")


class Spike(Shape, frozen=True, kw_only=True):
    """A steady rate, with many times as much for a while, at once and gone at once."""

    rate_per_s: float = 300.0
    """Beside the spike."""
    seconds: float = 60.0
    """All of it; the spike is in the middle."""
    times: float = 10.0
    """How many times as much."""
    spike_s: float = 6.0
    """How long it takes."""

    def curve(self) -> Curve:
        """Draw it."""
        _checked(self, "rate_per_s", "seconds", "times")
        if self.spike_s > self.seconds:
            raise ValueError(f"spike_s must be at most seconds, {self.seconds:g}, not {self.spike_s:g}")
        began, ended, rate = (self.seconds - self.spike_s) / 2, (self.seconds + self.spike_s) / 2, self.rate_per_s
        top = rate * self.times
        return Curve([(0.0, rate), (began, rate), (began, top), (ended, top), (ended, rate)], after="stays")


class Recorded(Shape, frozen=True, kw_only=True):
    """What was seen of a real system: so many requests in each stretch of time, all stretches of the same length."""

    rates_per_s: tuple[float, ...]
    width_s: float = 1.0
    repeats: bool = False

    def curve(self) -> Curve:
        """Draw it."""
        _checked(self, "width_s")
        knots, at = [], 0
        for rate, same in groupby(self.rates_per_s):  # nights and other gaps are one line each
            began, at = at, at + sum(1 for _ in same)
            knots += [(began * self.width_s, rate), (at * self.width_s, rate)]
        return Curve(knots or [(0.0, 0.0)], after="repeats" if self.repeats else "ends")


def _decay(began: float, ended: float, rate: float, floor: float, half_life: float) -> list[tuple[float, float]]:
    """Draw what falls from a rate to a floor, half of the way in each half-life."""
    lasts = min(ended - began, _HALVES * half_life)
    knots = []
    for line in range(_LINES_A_DECAY + 1):
        seconds = lasts * line / _LINES_A_DECAY
        knots.append((began + seconds, floor + (rate - floor) * 0.5 ** (seconds / half_life)))
    return [*knots, (knots[-1][0], floor)]


SHAPES: dict[str, type[Steady | Ramp | Diurnal | MarketOpen | FlashSale | Spike]] = {
    "steady": Steady,
    "ramp": Ramp,
    "diurnal": Diurnal,
    "market-open": MarketOpen,
    "flash-sale": FlashSale,
    "spike": Spike,
}
"""The shapes that are drawn, by name; each takes `rate_per_s`, and all but `steady` take `seconds`."""
