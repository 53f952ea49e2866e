"""When a second server is asked as well: how long a try is waited for first, and how often that may be done. No I/O.

All requests of this client may be sent twice, so the first answer counts. After Dean and Barroso, "The Tail at Scale",
Communications of the ACM 56(2), 2013: a second request goes out only when the first has taken longer than nearly all
do, and the number of second requests is bounded. Without that bound the load would double just when everything is slow.

How long nearly all take is estimated as TCP does for its retransmissions (Jacobson and Karels; RFC 6298): the smoothed
time of an answer, and four times its smoothed deviation.
"""

import threading

__all__ = ["Hedging"]


class Hedging:
    """The patience of one client, and its budget of second requests. Threads may share it.

    At any time there were at most `burst + share * requests` second requests.

    Args:
        delay_s: the least time that a first try is waited for.
        delay_s_max: the most, however slow the answers have been.
        share: how many second requests there may be for each request.
        burst: how many more there may be, after quiet times or at the begin.
    """

    def __init__(self, *, delay_s: float, delay_s_max: float, share: float, burst: float) -> None:
        self._delay_s = delay_s
        self._delay_s_max = max(delay_s, delay_s_max)
        self._share = share
        self._burst = burst
        self._tokens = burst
        self._usual_s: float | None = None
        self._deviation_s = 0.0
        self._lock = threading.Lock()

    @property
    def delay_s(self) -> float:
        """How long to wait for an answer before another server is asked as well."""
        usual_s = self._usual_s
        if usual_s is None:
            return self._delay_s
        return min(max(self._delay_s, usual_s + 4 * self._deviation_s), self._delay_s_max)

    def earn(self) -> None:
        """Take note of a request."""
        with self._lock:
            self._tokens = min(self._burst, self._tokens + self._share)

    def spend(self) -> bool:
        """Take a second request out of the budget; return whether there was one in it."""
        with self._lock:
            if self._tokens < 1:
                return False
            self._tokens -= 1
            return True

    def took(self, seconds: float) -> None:
        """Take note of how long an answer took."""
        with self._lock:
            if self._usual_s is None:
                self._usual_s, self._deviation_s = seconds, seconds / 2
                return
            self._deviation_s += (abs(seconds - self._usual_s) - self._deviation_s) / 4
            self._usual_s += (seconds - self._usual_s) / 8
