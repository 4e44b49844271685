"""How much of what worker hosts have is in use: what the stages need that run there now."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress

import msgspec

from flowq.store.connection import Connection
from flowq.store.keys import FLOW, RUNNING
from flowq.store.wire import HolderInfo, Record

_PAGE = 500
_record = msgspec.msgpack.Decoder(Record)


async def room_in_use(
    connection: Connection, partitions: Sequence[str], holders: Mapping[str, HolderInfo]
) -> Mapping[str, Mapping[str, int]]:
    """Host → what its processes use. Only those that need something are asked, and each for no more than it may run at once."""
    found: dict[str, Counter[str]] = {}
    asked = [(tag, holder) for tag in partitions for holder, info in holders.items() if info.has and info.needs]
    running = await connection.commands(*(("SMEMBERS", tag + RUNNING + holder) for tag, holder in asked))
    stages = [
        (holders[holder], tag + FLOW + flow, index)
        for (tag, holder), members in zip(asked, running, strict=True)
        for index, _, flow in (member.decode("utf-8", "replace").partition(":") for member in members)
    ]
    for start in range(0, len(stages), _PAGE):
        page = stages[start : start + _PAGE]
        answers = await connection.commands(*(("HGET", flow, index) for _, flow, index in page))
        for (info, _, _), data in zip(page, answers, strict=True):
            with suppress(msgspec.DecodeError):  # a damaged flow is told of where it is read itself
                if data is not None and (record := _record.decode(data)).state == "x":
                    label = record.route.partition(":")[2].rstrip("!")
                    found.setdefault(info.host, Counter()).update(info.needs.get(label, {}))
    return found
