"""Moments as people type them: ISO 8601, in local time where no offset is said."""

from __future__ import annotations

from datetime import datetime

from flowq.cli.usage import UsageError
from flowq.errors import InvalidValue, shown
from flowq.errors.duration import AS_PYTHON_HAS_IT, DURATION_MS_MAX, to_ms


def moment(text: str, option: str) -> datetime:
    """The moment, with a time zone.

    Raises:
        UsageError: it is none.
    """
    try:
        return datetime.fromisoformat(text).astimezone()
    except (ValueError, OverflowError):
        raise UsageError(f"{option} {shown(text)} is no moment", "write 2030-01-31T02:00, or 2030-01-31T02:00+01:00") from None


def duration_or_moment(text: str | None, option: str) -> str | datetime | None:
    """What looks like a date is a moment; all else is a duration.

    Raises:
        UsageError: it looks like a moment and is none.
        InvalidValue: it is neither.
    """
    if text is None:
        return None
    if text[:4].isdigit() and "-" in text:
        return moment(text, option)
    try:
        to_ms(text, option, least_ms=1)
    except InvalidValue:
        days = DURATION_MS_MAX // 86_400_000
        either = f"{AS_PYTHON_HAS_IT}, of at most {days} days, or a moment such as 2030-01-31T02:00"
        raise InvalidValue(option, text, either) from None
    return text
