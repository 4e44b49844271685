"""Durations as users write them: a `timedelta`, a number of seconds, or a string such as "90s", "5m", "2h"."""

from __future__ import annotations

import math
import re
from datetime import timedelta

from flowq.errors import InvalidValue

Duration = timedelta | float | int | str

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
# 366 days: longer delays and timeouts are mistakes in the unit more often than wishes.
DURATION_MS_MAX = 366 * 86_400_000


def to_ms(value: object, field: str, *, least_ms: int = 0, most_ms: int = DURATION_MS_MAX) -> int:
    """The duration in whole milliseconds.

    Raises:
        InvalidValue: not a duration, or outside `least_ms … most_ms`; names `field`.
    """
    expected = (
        f'a timedelta, seconds or a string such as "90s", "5m", "2h", from {least_ms / 1000:g} s to {most_ms / 86_400_000:g} days'
    )
    ms = _parsed_ms(value)
    if ms is None or not least_ms <= ms <= most_ms:
        raise InvalidValue(field, value, expected)
    return ms


def _parsed_ms(value: object) -> int | None:
    if isinstance(value, timedelta):
        return round(value.total_seconds() * 1000)
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return round(value * 1000) if math.isfinite(value) else None
    if isinstance(value, str):
        text = value.replace(" ", "")
        parts = _PART.findall(text)
        if parts and "".join(number + unit for number, unit in parts) == text:
            return round(sum(float(number) * _UNIT_MS[unit] for number, unit in parts))
    return None


def shown_duration(seconds: float) -> str:
    """A duration for people: `850ms`, `12.1s`, `3m 20s`, `2h 5m`, `4d 3h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h" if hours else f"{days}d"
