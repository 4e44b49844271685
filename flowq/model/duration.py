"""Durations as users write them and as people read them."""

from __future__ import annotations

from flowq.errors.duration import DURATION_MS_MAX, Duration, to_ms

__all__ = ["DURATION_MS_MAX", "Duration", "shown_duration", "to_ms"]


def shown_duration(seconds: float) -> str:
    """A duration for people: `850ms`, `12.1s`, `3m 20s`, `2h 5m`, `4d 3h`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}".removesuffix(".0") + "s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes}m {rest}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h {minutes}m" if minutes else f"{hours}h"
    days, hours = divmod(hours, 24)
    return f"{days}d {hours}h" if hours else f"{days}d"
