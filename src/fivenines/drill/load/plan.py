"""What a load is to do, as a value: it goes to the load's own process as one line of JSON."""

from collections.abc import Iterator

from msgspec import Struct

from fivenines.drill.load.shapes import (
    Arrivals,
    Curve,
    Diurnal,
    FlashSale,
    MarketOpen,
    Ramp,
    Recorded,
    Spike,
    Steady,
    arrivals,
)

__all__ = ["Plan"]


class Plan(Struct, frozen=True, kw_only=True):
    """What to do."""

    url: str
    """Of the ledger, by its name."""
    nameservers: tuple[tuple[str, ...] | None, ...] = (None,)
    """Of each client, host:port, the nearest first; there are as many clients as entries. None, or an empty entry: the
    system resolves."""
    shape: Steady | Ramp | Diurnal | MarketOpen | FlashSale | Spike | Recorded = Steady()
    seconds: float | None = None
    """When to stop asking by itself; None: when the shape ends, or when it is told to."""
    arrivals: Arrivals = "even"
    seed: int = 0
    """Of what is asked, and of when where chance has a part in that."""
    name: str = "1"
    """Of this load: its accounts are its own."""
    deadline_s: float = 30.0
    """How long a client goes on with one request."""
    connections: int = 16
    """How many requests of each client may be under way at once; a further one waits. One process is all of the
    clients. With hundreds of connections it would come round to each so seldom that an answer seems to take longer than
    it may, and what is given up is asked for again: a jam of its own making."""

    def check(self) -> None:
        """Raise ValueError, with the field and the reason, where something makes no sense."""
        if not self.nameservers:
            raise ValueError("nameservers must have an entry for each client, not none at all")
        for name in ("deadline_s", "connections", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be above 0, not {value:g}")
        self.shape.curve()

    def curve(self) -> Curve:
        """Draw the rate over time, without regard to `seconds`."""
        return self.shape.curve()

    def due(self) -> Iterator[float]:
        """Yield when each request is due, in seconds since the load began."""
        for at in arrivals(self.curve(), seed=self.seed, kind=self.arrivals):
            if self.seconds is not None and at >= self.seconds:
                return
            yield at
