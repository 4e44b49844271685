"""Moments as people type them: ISO 8601, in local time where no offset is said."""

from __future__ import annotations

from datetime import datetime

from flowq.cli.usage import UsageError
from flowq.errors import shown


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
    """What looks like a date is a moment; all else is left to be read as a duration."""
    return moment(text, option) if text is not None and text[:4].isdigit() and "-" in text else text
