"""Reads what stages used up and logged."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec

from flowq.model.logs import LogLine, read
from flowq.model.usage import Usage
from flowq.store.keys import METERED
from flowq.store.store import Store
from flowq.store.views import Views

_DAY_MS = 86_400_000

# {fence, what earlier runs logged, what the latest logged}, as scripts/notes.lua packs it.
_log = msgspec.msgpack.Decoder(tuple[int, str, str])


class Meters:
    """What was metered and logged."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def usage(self, days: int) -> list[Usage]:
        """The sums of the last days, the latest first; today is one of them."""
        today = await Views(self._store).now() // _DAY_MS
        found: list[Usage] = []
        for day in range(today, today - days, -1):
            asked = (("HGETALL", f"{tag}{METERED}{day}") for tag in self._store.partitions)
            sums: dict[tuple[str, str], dict[str, float]] = {}
            for answer in await self._store.connection.commands(*asked):
                for field, amount in answer.items():
                    pipeline, tenant, name = field.decode().split("|", 2)
                    of_both = sums.setdefault((pipeline, tenant), {})
                    of_both[name] = of_both.get(name, 0) + float(amount)
            shown = f"{datetime.fromtimestamp(day * _DAY_MS / 1000, UTC):%Y-%m-%d}"
            found += [Usage(day=shown, pipeline=both[0], tenant=both[1], amounts=sums[both]) for both in sorted(sums)]
        return found

    async def logs(self, flow_id: str, stages: dict[int, str]) -> list[LogLine]:
        """What these stages logged, index → name, in the order of time."""
        indexes = list(stages)
        lines: list[LogLine] = []
        for start in range(0, len(indexes), 500):
            page = indexes[start : start + 500]
            values: list[Any] = await self._store.connection.command(
                "HMGET", self._store.keys.flow(flow_id), *(f"l{index}" for index in page)
            )
            for index, data in zip(page, values, strict=True):
                if data is not None:
                    lines += read(stages[index], _text_of(data))
        return sorted(lines, key=lambda line: line.at)


def _text_of(data: bytes) -> str:
    try:
        _, earlier, latest = _log.decode(data)
    except msgspec.MsgspecError:  # cut in the midst of a character, or damaged
        return ""
    return earlier + latest
