"""Durations as users write them, and as people read them."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest

from flowq.errors import InvalidValue
from flowq.model.duration import DURATION_MS_MAX, shown_duration, to_ms


@pytest.mark.parametrize(
    ("value", "ms"),
    [
        ("90s", 90_000), ("5m", 300_000), ("2h", 7_200_000),
        ("1d", 86_400_000), ("250ms", 250), ("1h30m", 5_400_000), ("1h 30m", 5_400_000),
        ("1.5s", 1_500), (2, 2_000), (0.25, 250), (0, 0), (timedelta(minutes=1), 60_000),
    ],
)  # fmt: skip
def test_a_duration_is_understood_as_written(value: Any, ms: int) -> None:
    assert to_ms(value, "timeout") == ms


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "s",
        "5 minutes",
        "-5s",
        "5S",
        "1h30",
        "1e3s",
        -1,
        math.nan,
        math.inf,
        True,
        None,
        [],
        timedelta(-1),
        "367d",
        10**12,
        b"5s",
    ],
)
def test_anything_else_is_refused_with_its_field_and_examples(value: Any) -> None:
    with pytest.raises(InvalidValue) as refusal:
        to_ms(value, "timeout")
    assert "timeout is" in str(refusal.value)
    assert '"90s"' in str(refusal.value)


def test_bounds_are_kept_and_named() -> None:
    assert to_ms(DURATION_MS_MAX / 1000, "delay") == DURATION_MS_MAX
    with pytest.raises(InvalidValue, match="from 1 s"):
        to_ms("10ms", "lease", least_ms=1_000)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.85, "850ms"),
        (12.14, "12.1s"),
        (200, "3m 20s"),
        (60, "1m"),
        (7_500, "2h 5m"),
        (7_200, "2h"),
        (360_000, "4d 4h"),
    ],
)
def test_a_duration_is_shown_in_two_units_at_most(seconds: float, text: str) -> None:
    assert shown_duration(seconds) == text
