"""JSON out: one envelope for everything, times as ISO 8601 in UTC with milliseconds, durations in seconds."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from flowq.model.plain import iso, plain
from flowq.model.snapshot import SCHEMA_VERSION

__all__ = ["envelope", "iso", "json_escapes", "json_text", "plain"]

_OUTSIDE_ASCII = re.compile(r"[^\x20-\x7e\n]+")


def envelope(kind: str, data: Any) -> dict[str, Any]:
    """The form that every JSON answer has; programs may rely on these three keys."""
    return {"schema_version": SCHEMA_VERSION, "kind": kind, "data": plain(data)}


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


def _without_controls(match: re.Match[str]) -> str:
    # Outside ASCII occurs in strings only, so replacing it in the encoded text is safe.
    return "".join(char if char.isprintable() else json_escapes(char) for char in match.group())
