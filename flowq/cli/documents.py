"""JSON out: one envelope for everything, times as ISO 8601 in UTC with milliseconds, durations in seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final, cast

import msgspec

from flowq.model.snapshot import SCHEMA_VERSION

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
        "next_at",
        "last_at",
    }
)
# What users returned stands in these, as it is.
_OPAQUE: Final = frozenset({"inputs", "result"})
_OUTSIDE_ASCII = re.compile(r"[^\x20-\x7e\n]+")


def iso(ms: int) -> str:
    """Milliseconds since 1970 → `2026-11-22T01:02:03.456Z`."""
    try:
        moment = datetime.fromtimestamp(ms // 1000, UTC)
    except (ValueError, OverflowError, OSError):  # a damaged record must not hide the rest of the flow
        return str(ms)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03d}Z"


def envelope(kind: str, data: Any) -> dict[str, Any]:
    """The form that every JSON answer has; programs may rely on these three keys."""
    return {"schema_version": SCHEMA_VERSION, "kind": kind, "data": plain(data)}


def plain(value: Any) -> Any:
    """A model struct, or a list of them, as JSON values."""
    if isinstance(value, msgspec.Struct):
        return {name: _field(name, getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, list | tuple):
        return [plain(item) for item in cast("Sequence[Any]", value)]
    return value


def json_text(document: Any, *, pretty: bool) -> str:
    """The document as JSON that can't steer a terminal: characters that are not printable are escaped."""
    try:
        text = msgspec.json.encode(document, enc_hook=repr).decode()
        if pretty:
            text = msgspec.json.format(text, indent=2)
    except UnicodeEncodeError:  # half a surrogate pair, which only the standard library writes
        import json

        text = json.dumps(document, default=repr, indent=2 if pretty else None)
    return _OUTSIDE_ASCII.sub(_without_controls, text)


def json_escapes(text: str) -> str:
    """`\\u202e` for each character; above 16 bits JSON wants pairs."""
    units = text.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{int.from_bytes(units[i : i + 2]):04x}" for i in range(0, len(units), 2))


def _field(name: str, value: Any) -> Any:
    if name in _OPAQUE:
        return value
    if name in _MOMENTS and isinstance(value, int):
        return iso(value)
    return plain(value)


def _without_controls(match: re.Match[str]) -> str:
    # Outside ASCII occurs in strings only, so replacing it in the encoded text is safe.
    return "".join(char if char.isprintable() else json_escapes(char) for char in match.group())
