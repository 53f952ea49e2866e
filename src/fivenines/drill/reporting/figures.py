"""Figures as people read them: one way to write a duration, a share, a count, for page, terminal and files alike.

Nothing is rounded towards the good: a share is cut, never rounded up, so only a whole one is ever 100 %.
"""

import math
from datetime import UTC, datetime

__all__ = ["clock", "count", "date", "money", "offset", "seconds", "share"]


def seconds(value: float | None) -> str:
    """Write a duration: 0 s, 340 ms, 1.24 s, 12.3 s, 2 min 05 s, 3 h 20 min."""
    if value is None:
        return "–"
    if math.isnan(value):
        return "unknown"
    if math.isinf(value):
        return "without end"
    if value < 0:
        return f"-{seconds(-value)}"
    if value == 0:
        return "0 s"
    if value < 0.001:
        return "< 1 ms"
    if value < 0.9995:
        return f"{value * 1_000:.0f} ms"
    if value < 9.995:
        return f"{value:.2f} s"
    if value < 99.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3_600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3_600:,} h {whole % 3_600 // 60:02} min"


def offset(value: float) -> str:
    """Write a time since the drill began, as on a time axis."""
    return f"{value:,.2f} s" if math.isfinite(value) else seconds(value)


def share(value: float) -> str:
    """Write a share in percent, with as many nines as it has, cut after the fifth digit."""
    if not math.isfinite(value):
        return "unknown"
    if value >= 1:
        return "100 %"
    cut = math.floor(max(0.0, value) * 10_000_000 + 1e-6) / 100_000
    text = f"{min(cut, 99.99999):.5f}".rstrip("0")
    whole, _, part = text.partition(".")
    return f"{whole}.{part.ljust(2, '0')} %"


def count(value: float, unit: str = "", *, many: str = "") -> str:
    """Write how many: 12,345 requests."""
    text = f"{value:,.0f}" if math.isfinite(value) else seconds(value)
    named = unit if value == 1 else (many or f"{unit}s") if unit else ""
    return f"{text} {named}".strip()


def money(value: float | None, currency: str) -> str:
    """Write what something costs."""
    if value is None:
        return "–"
    if not math.isfinite(value):
        return "unknown"
    return f"{value:,.2f} {currency}".strip()


def clock(unix_s: float) -> str:
    """Write a moment, in UTC to the second."""
    moment = _moment(unix_s)
    return "unknown" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def date(unix_s: float) -> str:
    """Write a moment as ISO 8601, as files want it."""
    moment = _moment(unix_s)
    return "" if moment is None else f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _moment(unix_s: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(unix_s, UTC) if unix_s > 0 else None
    except (ValueError, OverflowError, OSError):
        return None
