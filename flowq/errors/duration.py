"""Durations as users write them: a `timedelta`, a number of seconds, or a string such as "90s", "5m", "2h".

Here and not in the model, because `RetryAfter` refuses what is none; all others use `flowq.model.duration`.
"""

from __future__ import annotations

import math
import re
from datetime import timedelta

from flowq.errors.values import InvalidValue

Duration = timedelta | float | int | str

AS_PYTHON_HAS_IT = 'a timedelta, seconds or a string such as "90s", "5m", "2h"'

_UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
# 366 days: longer delays and timeouts are mistakes in the unit more often than wishes.
DURATION_MS_MAX = 366 * 86_400_000


def to_ms(value: object, field: str, *, least_ms: int = 0, most_ms: int = DURATION_MS_MAX) -> int:
    """The duration in whole milliseconds.

    Raises:
        InvalidValue: not a duration, or outside `least_ms … most_ms`; names `field`.
    """
    expected = f"{AS_PYTHON_HAS_IT}, from {least_ms / 1000:g} s to {most_ms / 86_400_000:g} days"
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
