"""Reads all queues: what waits, what runs, who serves them. Never scans keys, and reads a bounded part of each.

The queues are those that live workers serve, and those of all routes that there are (routes.py): somebody may wait there for
a worker that there is not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

from flowq.model.builtin import BUILTIN_QUEUE
from flowq.model.fleet import QueueSnapshot, WorkerSnapshot
from flowq.model.limit import OF_QUEUE, OF_TENANT
from flowq.store.due_soon import DUE_MEMBER, part_decoder
from flowq.store.keys import DUE, FLOW, LANE, RUNNING
from flowq.store.lane_names import lanes_of
from flowq.store.pauses import Pauses
from flowq.store.routes import known_routes
from flowq.store.store import Store
from flowq.store.views import Views, head_decoder, record_decoder

# Of a lane, and of what waits for a time, so many entries are read, and so many lanes of one stage's tenants; the rest is taken
# to be like them.
_COUNTED_MAX = 1_000
_LANES_MAX = 50
# So many at the front of a lane are asked how long they have waited.
_AGED_MAX = 10
_PAGE = 500

# `index:flow`, `first-last:flow`; of a flow's first stages `…@since:flow` or `…@since+ms:flow`, of resumed ones `…+:flow`: see
# scripts/lanes.lua.
_ENTRY = re.compile(r"(\d+)(?:-(\d+))?(?:@(\d+)(?:\+(\d+))?|\+)?:(.+)")
_Parts = tuple[str | None, ...]


class KnownQueues(NamedTuple):
    """The queues that are known, by name. `is_complete`: whether there are no others."""

    queues: list[QueueSnapshot]
    is_complete: bool


class Fleet:
    """Queues, over one store."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views
        self._commands = store.connection.commands

    async def queues(self) -> KnownQueues:
        """All queues."""
        (workers, served), now = await self._views.serving(), await self._views.now()
        routes, is_complete = await known_routes(self._store, served)
        count = _Count(now)
        for tag in self._store.partitions:
            await self._ready(tag, sorted(routes), count)
            await self._delayed(tag, count)
            await self._running(tag, workers, count)
        pauses = {pause.name: pause for pause in await Pauses(self._store).every() if pause.kind == "queue"}
        # That of the stages which flowq brings itself is told of only where something waits or runs in it.
        serving = _serving(workers)
        names = ({_queue_of(route) for route in routes} | serving.keys()) - {BUILTIN_QUEUE}
        names |= (count.ready + count.running + count.delayed).keys() | pauses.keys()
        found: list[QueueSnapshot] = []
        for name in sorted(names):
            of_queue = [worker for worker in serving.get(name, ()) if not worker.is_alone]
            oldest = count.oldest.get(name)
            found.append(
                QueueSnapshot(
                    name=name,
                    ready=count.ready[name],
                    running=count.running[name],
                    delayed=count.delayed[name],
                    workers=len(of_queue),
                    slots=sum(worker.concurrency for worker in of_queue),
                    oldest_seconds=None if oldest is None else max(0, now - oldest) / 1000,
                    pause=pauses.get(name),
                    is_estimate=name in count.estimated or not is_complete,
                )
            )
        return KnownQueues(found, is_complete)

    async def held_back(self, limits: Collection[str]) -> Mapping[str, int]:
        """Limit → how many stages are ready, of these limits on queues and tenants."""
        _, served = await self._views.serving()
        routes = sorted((await known_routes(self._store, served)).routes)
        found: Counter[str] = Counter()
        for tag in self._store.partitions:
            lanes: dict[str, list[str]] = {}
            for route, name in await lanes_of(
                self._store.connection, tag, [route + suspect for route in routes for suspect in ("", "!")]
            ):
                for limit in {OF_QUEUE + _queue_of(route), OF_TENANT + name.partition(":")[2]}.intersection(limits):
                    lanes.setdefault(limit, []).append(f"{tag}{LANE}{route}:{name}")
            for limit, keys in lanes.items():
                total = sum(await self._paged([("LLEN", lane) for lane in keys]))
                read = [await self._entries(lane) for lane in keys[:_LANES_MAX]]
                counted, stages = sum(number for number, _ in read), sum(_stages_in(parsed) for _, parsed in read)
                found[limit] += round(stages * total / max(1, counted))
        return found

    async def _ready(self, tag: str, routes: Sequence[str], count: _Count) -> None:
        every = [f"{route}{suspect}" for route in routes for suspect in ("", "!")]
        lanes: dict[str, list[str]] = {}
        for route, name in await lanes_of(self._store.connection, tag, every):
            lanes.setdefault(route, []).append(f"{tag}{LANE}{route}:{name}")
        for route, keys in lanes.items():
            queue, stages, counted = _queue_of(route), 0, 0
            total = sum(await self._paged([("LLEN", lane) for lane in keys]))
            for lane in keys[:_LANES_MAX]:
                entries, parsed = await self._entries(lane)
                counted += entries
                stages += _stages_in(parsed)
                await self._age(tag, queue, parsed[:_AGED_MAX], count)
            count.add(count.ready, queue, stages, counted, total)

    async def _entries(self, lane: str) -> tuple[int, list[_Parts]]:
        """How many of a lane's entries were read, and the parts of those that are in form."""
        entries: list[bytes] = await self._store.connection.command("LRANGE", lane, 0, _COUNTED_MAX - 1)
        found = [match.groups() for entry in entries if (match := _ENTRY.fullmatch(entry.decode("utf-8", "replace")))]
        return len(entries), found

    async def _age(self, tag: str, queue: str, entries: Sequence[_Parts], count: _Count) -> None:
        values = await self._paged([("HMGET", f"{tag}{FLOW}{entry[4]}", "m", entry[0]) for entry in entries])
        for (_, _, since, later_ms, _), (head, record) in zip(entries, values, strict=True):
            with suppress(msgspec.DecodeError, msgspec.ValidationError):
                if head is None or head_decoder.decode(head).status not in ("r", "x", "p"):
                    continue
                if since is not None:
                    count.note_waiting(queue, int(since) + int(later_ms or 0))
                elif record is not None and (known := record_decoder.decode(record)).state == "r":
                    count.note_waiting(queue, known.ready_at)

    async def _delayed(self, tag: str, count: _Count) -> None:
        asked = ("ZCARD", tag + DUE), ("ZCOUNT", tag + DUE, "-inf", count.now), ("ZRANGE", tag + DUE, 0, _COUNTED_MAX - 1)
        members: list[bytes]
        total, is_due, members = await self._commands(*asked)
        # What is due waits for a worker, and if there is none, nobody makes it ready either.
        await self._due(tag, members[:is_due], is_due, count, count.ready)
        await self._due(tag, members[is_due:], total - is_due, count, count.delayed)

    async def _due(self, tag: str, members: Sequence[bytes], total: int, count: _Count, counter: Counter[str]) -> None:
        found = [match.groups() for member in members if (match := DUE_MEMBER.fullmatch(member.decode("utf-8", "replace")))]
        values = await self._paged([("HGET", tag + FLOW + flow, name) for name, flow in found])
        stages: Counter[str] = Counter()
        for (name, _), data in zip(found, values, strict=True):
            with suppress(msgspec.DecodeError, msgspec.ValidationError):
                if data is None:
                    continue
                if not name.startswith("b"):
                    # What is suspended waits in no queue before its time.
                    if (record := record_decoder.decode(data)).state == "s" or (record.state == "u" and counter is count.ready):
                        stages[_queue_of(record.route)] += 1
                    continue
                for route, _, first, last in part_decoder.decode(data)[1]:
                    stages[_queue_of(route)] += last - first + 1
        for queue, number in stages.items():
            count.add(counter, queue, number, len(members), total)

    async def _running(self, tag: str, workers: Sequence[WorkerSnapshot], count: _Count) -> None:
        members = await self._paged([("SMEMBERS", tag + RUNNING + worker.id) for worker in workers])
        stages = [member.decode("utf-8", "replace").partition(":") for found in members for member in found]
        for data in await self._paged([("HGET", tag + FLOW + flow, index) for index, _, flow in stages]):
            with suppress(msgspec.DecodeError, msgspec.ValidationError):
                if data is not None and (record := record_decoder.decode(data)).state == "x":
                    count.running[_queue_of(record.route)] += 1

    async def _paged(self, asked: Sequence[tuple[Any, ...]]) -> list[Any]:
        return [answer for start in range(0, len(asked), _PAGE) for answer in await self._commands(*asked[start : start + _PAGE])]


class _Count:
    """What was counted so far, by queue."""

    def __init__(self, now: int) -> None:
        self.now = now
        self.ready: Counter[str] = Counter()
        self.running: Counter[str] = Counter()
        self.delayed: Counter[str] = Counter()
        self.oldest: dict[str, int] = {}
        self.estimated: set[str] = set()

    def add(self, counter: Counter[str], queue: str, stages: int, counted: int, total: int) -> None:
        """Of `total` entries the `counted` first mean so many stages."""
        if counted < total:
            self.estimated.add(queue)
            stages = round(stages * total / max(1, counted))
        counter[queue] += stages

    def note_waiting(self, queue: str, since: int) -> None:
        """One of its stages has waited since then."""
        self.oldest[queue] = min(since, self.oldest.get(queue, since))


def _stages_in(entries: Iterable[_Parts]) -> int:
    return sum(int(last or first or 0) - int(first or 0) + 1 for first, last, *_ in entries)


def _serving(workers: Iterable[WorkerSnapshot]) -> dict[str, list[WorkerSnapshot]]:
    found: dict[str, list[WorkerSnapshot]] = {}
    for worker in workers:
        for queue in worker.queues:
            found.setdefault(queue, []).append(worker)
    return found


def _queue_of(route: str) -> str:
    return route.partition(":")[0]
