"""Finds flows by what they have in common, the newest first, without scanning keys.

Every flow stands in the index of its pipeline, and in one for its tenant and each tag it was given, in the order in which
flows were added; flows that live, failed or were cancelled stand in one each besides. A question is answered from the
smallest index that holds all answers; what else it asks for is read off the flows found there.
"""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from flowq.model.filter import FlowFilter
from flowq.model.pause import Pause
from flowq.model.snapshot import FlowSummary
from flowq.model.states import FINAL
from flowq.store.damage import text_of
from flowq.store.keys import BY, CANCELLED, FAILED, LIVE, PIPELINES
from flowq.store.pauses import Pauses
from flowq.store.store import Store
from flowq.store.views import Views, pairs

_PAGE = 200
# Up to so many flows of one outcome are read and sorted rather than picked out of all flows.
_SORTED_MAX = 2_000
# Nothing is indexed by parts of ids.
_SEARCHED_MAX = 100_000
_OF_END = {"failed": FAILED, "cancelled": CANCELLED}


Command = Callable[..., Awaitable[Any]]


class Place(NamedTuple):
    """Where a flow stands in the order in which flows were added: flows of one millisecond are ordered by their ids."""

    created_at: int
    flow_id: str

    def __lt__(self, other: tuple[object, ...]) -> bool:
        """Turned round, because a heap gives the least and the newest is wanted."""
        return tuple(self) > tuple(other)


class _Index(NamedTuple):
    keys: list[str]
    size: int
    is_in_order: bool


class Finder:
    """Answers questions about many flows."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views
        self._command = store.connection.command

    async def list(self, wanted: FlowFilter, limit: int, after: Place | None = None) -> list[FlowSummary]:
        """The newest flows that fit.

        Args:
            wanted: which.
            limit: how many at most.
            after: go on behind this one.
        """
        index = await self._index(wanted)
        if not index.is_in_order and index.size > _SORTED_MAX:
            index = await self._index(wanted, in_order=True)
        if not index.is_in_order:
            every = [flow async for page in self._pages(index, wanted) for flow in page]
            behind = (flow for flow in every if after is None or after < _place(flow))
            return heapq.nsmallest(limit, behind, key=_place)
        found: list[FlowSummary] = []
        looked_at = 0
        async for places in self._newest(index, wanted, after):
            found += [flow for flow in await self._summaries(places) if wanted.fits(flow)]
            looked_at += len(places)
            if len(found) >= limit or (wanted.search and looked_at >= _SEARCHED_MAX):
                break
        return found[:limit]

    async def each(self, wanted: FlowFilter) -> AsyncIterator[list[FlowSummary]]:
        """All flows that fit, in pages of at most 200 and in no particular order, each once, also if what is done to them takes
        them out of the index that is being read."""
        async for page in self._pages(await self._index(wanted), wanted):
            if page:
                yield page

    async def paused(self, limit: int) -> list[Pause]:
        """The newest flows that are paused, at most so many: all that have not ended are looked through, but for those that
        stages spawned, which stand in no index."""
        index = await self._sized([tag + LIVE for tag in self._store.partitions])
        found: list[Pause] = []
        async for places in self._newest(index, FlowFilter(), None):
            found += await Pauses(self._store).of_flows([place.flow_id for place in places])
            if len(found) >= limit:
                break
        return found[:limit]

    async def pipelines(self) -> list[str]:
        """The names of all pipelines that have flows."""
        answers = await self._store.connection.commands(*(("HKEYS", tag + PIPELINES) for tag in self._store.partitions))
        return sorted({text_of(name) for answer in answers for name in answer})

    async def newest_ids(self, pipeline: str, count: int) -> list[str]:
        """The newest flows of a pipeline, whatever their state."""
        index = await self._sized([tag + BY + f"pipeline:{pipeline}" for tag in self._store.partitions])
        found: list[str] = []
        async for places in self._newest(index, FlowFilter(), None):
            found += [place.flow_id for place in places]
            if len(found) >= count:
                break
        return found[:count]

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _index(self, wanted: FlowFilter, *, in_order: bool = False) -> _Index:
        """The smallest index that holds all flows that fit."""
        tags = self._store.partitions
        # What runs after the end of flows stands in the indexes of those that live, or failed.
        labels = [] if wanted.with_hooks else wanted.labels
        known = [await self._sized([tag + BY + label for tag in tags]) for label in labels]
        if wanted.is_live or (wanted.state is not None and wanted.state not in FINAL):
            known.append(await self._sized([tag + LIVE for tag in tags]))
        elif not in_order and (word := _OF_END.get(wanted.state or "")):
            known.append(await self._sized([tag + word for tag in tags], is_in_order=False))
        if not known:
            known.append(await self._sized([tag + BY + f"pipeline:{name}" for name in await self.pipelines() for tag in tags]))
        return min(known, key=lambda index: index.size)

    async def _sized(self, keys: Sequence[str], *, is_in_order: bool = True) -> _Index:
        sizes = await self._store.connection.commands(*(("ZCARD", key) for key in keys))
        return _Index([key for key, size in zip(keys, sizes, strict=True) if size], sum(sizes), is_in_order)

    async def _pages(self, index: _Index, wanted: FlowFilter) -> AsyncIterator[list[FlowSummary]]:
        for key in index.keys:
            async for places in walk(self._command, key):
                yield [flow for flow in await self._summaries(places) if wanted.fits(flow)]

    async def _newest(self, index: _Index, wanted: FlowFilter, after: Place | None) -> AsyncIterator[list[Place]]:
        """The places of several sorted sets merged, in pages."""
        start = after
        if start is None and wanted.until_ms is not None:
            start = Place(int(wanted.until_ms) + 1, "")
        walks = [walk(self._command, key, start) for key in index.keys]
        waiting: list[tuple[Place, int]] = []
        ahead: dict[int, list[Place]] = {}

        async def push(of: int) -> None:
            if not ahead.get(of):
                ahead[of] = [*reversed(await anext(walks[of], list[Place]()))]
            if ahead[of]:
                heapq.heappush(waiting, (ahead[of].pop(), of))

        for of in range(len(walks)):
            await push(of)
        page: list[Place] = []
        while waiting:
            place, of = heapq.heappop(waiting)
            if wanted.since_ms is not None and place.created_at < wanted.since_ms:
                break
            page.append(place)
            if len(page) == _PAGE:
                yield page
                page = []
            await push(of)
        if page:
            yield page

    async def _summaries(self, places: Sequence[Place]) -> list[FlowSummary]:
        return await self._views.summaries([place.flow_id for place in places])


def _place(flow: FlowSummary) -> Place:
    return Place(flow.created_at, flow.id)


async def walk(command: Command, key: str, after: Place | None = None) -> AsyncIterator[list[Place]]:
    """A sorted set from its newest entry on, in pages; not by rank, which changes while it is read."""
    highest: int | str = "+inf" if after is None else after.created_at
    seen: set[str] = set()  # of the millisecond that the page before ended in
    offset = 0
    while True:
        answer = await command("ZREVRANGEBYSCORE", key, highest, "-inf", "WITHSCORES", "LIMIT", offset, _PAGE)
        places = [Place(at, name) for name, at in pairs(answer)]
        fresh = [place for place in places if place.flow_id not in seen]
        if not fresh:
            if len(places) < _PAGE:
                return
            offset += _PAGE  # more flows of one millisecond than a page holds
            continue
        last = fresh[-1].created_at
        seen = {place.flow_id for place in fresh if place.created_at == last} | (seen if last == highest else set())
        highest, offset = last, 0
        behind = fresh if after is None else [place for place in fresh if after < place]
        if behind:
            yield behind
