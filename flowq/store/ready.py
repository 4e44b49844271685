"""What waits in lanes, as a claim would find it."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final

import msgspec

from flowq.errors import CorruptState
from flowq.store.connection import Connection
from flowq.store.keys import FLOW, LANE
from flowq.store.lane_names import lanes_of
from flowq.store.wire import Head, Record

_PAGE: Final = 200

_head = msgspec.msgpack.Decoder(Head)
_record = msgspec.msgpack.Decoder(Record)

# `index:flow`, `first-last:flow`, with `@created_at` where the flow's first stages wait, `+` where a resumed one does: see
# scripts/lanes.lua.
_ENTRY = re.compile(r"(\d+)(-\d+)?(?:@(\d+)(?:\+\d+)?|\+)?:(.+)")


async def has_ready(connection: Connection, tag: str, routes: Collection[str]) -> bool:
    """Whether a stage of these routes is ready in a partition. What a claim would drop in passing does not count."""
    for route in routes:
        for _, name in await lanes_of(connection, tag, [route]):
            lane, end = f"{tag}{LANE}{route}:{name}", -1
            # From its end, where nobody takes entries off between two pages.
            while page := await connection.command("LRANGE", lane, end - _PAGE + 1, end):
                for entry in page:
                    if await _is_ready(connection, tag, route, entry.decode("utf-8", "replace")):
                        return True
                end -= _PAGE
    return False


async def _is_ready(connection: Connection, tag: str, route: str, entry: str) -> bool:
    """Whether a claim would take this entry of a route's lane (scripts/claim.lua); of a range, whether the flow is open."""
    parts = _ENTRY.fullmatch(entry)
    if parts is None:
        return False
    index, is_range, created_at, flow_id = parts.groups()
    try:
        head_data, record_data = await connection.command("HMGET", tag + FLOW + flow_id, "m", index)
        head = _head.decode(head_data or b"")
        record = _record.decode(record_data) if record_data else None
    except (CorruptState, ValueError):  # no msgpack, or texts that are none
        return False
    is_open = head.status in ("r", "x") and created_at in (None, str(head.created_at))
    is_first = record is None and created_at is not None
    is_ready = record is not None and (record.state, record.route) == ("r", route)
    return is_open and (bool(is_range) or is_first or is_ready)
