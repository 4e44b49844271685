"""What a stage raises to steer its own retry. No errors of flowq."""

from __future__ import annotations

from typing import Any

from flowq.errors.duration import Duration, to_ms
from flowq.errors.root import rebuilt


class Unrecoverable(Exception):
    """Raise it in a stage to fail for good, whatever attempts are left."""


class RetryAfter(Exception):
    """Raise it in a stage to be retried when the other side said (HTTP 429, Retry-After).

    Args:
        duration: how long to wait: a `timedelta`, seconds, or a string such as `"90s"`.
        message: why, shown in `flowq inspect`.
        uses_attempt: whether this run counts against the stage's attempts; at most 100 free ones are given.

    Raises:
        InvalidValue: the duration is none.
    """

    def __init__(self, duration: Duration, message: str = "", *, uses_attempt: bool = True) -> None:
        to_ms(duration, "RetryAfter")
        super().__init__(message or f"retry after {duration}")
        self.duration = duration
        self.uses_attempt = uses_attempt

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt(self)
