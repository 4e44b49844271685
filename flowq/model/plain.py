"""Snapshots, events and reports as JSON values: times as ISO 8601 in UTC with milliseconds, durations in seconds. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec

# Which fields of snapshots and events are moments. Found by name, so that what a stage returned is never touched.
_MOMENTS: Final = frozenset(
    {
        "at",
        "created_at",
        "started_at",
        "ended_at",
        "ready_at",
        "due_at",
        "begins_at",
        "deadline_at",
        "since",
        "first_at",
        "next_at",
        "last_at",
    }
)
# What users returned stands in these, as it is.
_OPAQUE: Final = frozenset({"inputs", "result"})


def iso(ms: int) -> str:
    """Milliseconds since 1970 → `2026-11-22T01:02:03.456Z`."""
    try:
        moment = datetime.fromtimestamp(ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a damaged record must not hide the rest of the flow
        return str(ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def plain(value: Any) -> Any:
    """A model struct, or a list of them, as JSON values."""
    if isinstance(value, msgspec.Struct):
        return {name: _field(name, getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return value


def _field(name: str, value: Any) -> Any:
    if name in _OPAQUE:
        return value
    if name in _MOMENTS and isinstance(value, int):
        return iso(value)
    return plain(value)
