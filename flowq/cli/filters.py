"""The options by which commands choose flows, and how far back a moment lies."""

from __future__ import annotations

import time

STATES = ("scheduled", "ready", "running", "suspended", "paused", "completed", "failed", "cancelled")


def ago(duration: str | None, option: str) -> float | None:
    """The moment so long ago, milliseconds since 1970; None for None. Raises InvalidValue."""
    from flowq.model.duration import to_ms

    return None if duration is None else time.time() * 1000 - to_ms(duration, option, least_ms=1)
