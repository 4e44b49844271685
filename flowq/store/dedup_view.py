"""Reads under which key a flow was added, and whether it waits because of that."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from flowq.model.dedup import DedupSnapshot
from flowq.store.wire import Head, Header

# Since when, and which flow it waits for: written by scripts/replace.lua.
_noted = msgspec.msgpack.Decoder(tuple[int, str])


def dedup_of(head: Head, header: Header, fields: Mapping[str, bytes]) -> DedupSnapshot | None:
    """The key of a flow; None: it was added without one."""
    if header.dedup is None:
        return None
    since, waits_for = _noted.decode(fields["D"]) if "D" in fields else (head.created_at, "")
    return DedupSnapshot(*header.dedup, since, waits_for)
