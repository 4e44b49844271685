"""Whether what waits for a time will soon want a worker."""

from __future__ import annotations

import re
from collections.abc import Collection
from contextlib import suppress
from typing import Any, Final

import msgspec

from flowq.store.keys import DUE, FLOW
from flowq.store.pauses import Pauses, unpaused
from flowq.store.store import Store
from flowq.store.views import Views, record_decoder

# Where so many are due soon, some of them are taken to be for whoever asks.
_READ_MAX: Final = 500
# `index:flow`, or `b3:flow`: see scripts/due.lua. What else waits for a time is done in passing.
DUE_MEMBER: Final = re.compile(r"(b?\d+):(.+)")
# A part of what a flow begins with that begins later: its ranges of stages, by route.
part_decoder = msgspec.msgpack.Decoder(tuple[int, list[tuple[str, int, int, int]]])


async def is_due_soon(store: Store, routes: Collection[str], within_ms: int) -> bool:
    """Whether a stage of these routes becomes ready within the time, or should have, in a queue that is not paused."""
    routes = unpaused(routes, await Pauses(store).every())
    until = await Views(store).now() + within_ms
    for tag in store.partitions:
        members: list[bytes] = await store.connection.command("ZRANGEBYSCORE", tag + DUE, "-inf", until, "LIMIT", 0, _READ_MAX)
        found = [match.groups() for member in members if (match := DUE_MEMBER.fullmatch(member.decode("utf-8", "replace")))]
        if len(members) == _READ_MAX:
            return True
        asked: list[tuple[Any, ...]] = [("HGET", tag + FLOW + flow, name) for name, flow in found]
        for (name, _), data in zip(found, await store.connection.readable(*asked), strict=True):
            if data is not None and not _routes_of(name, data).isdisjoint(routes):
                return True
    return False


def _routes_of(name: str, data: bytes) -> set[str]:
    with suppress(msgspec.DecodeError, msgspec.ValidationError):  # what is damaged wants nobody
        if name.startswith("b"):
            return {route for route, *_ in part_decoder.decode(data)[1]}
        if (record := record_decoder.decode(data)).state in ("s", "u"):
            return {record.route}
    return set()
