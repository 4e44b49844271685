"""Does one thing to many flows: bounded in memory, a few at a time, and what fails for one does not stop the others.

What was done is seen in the flows themselves, so a call that was broken off is simply made again: it goes on with the rest.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from flowq.errors import CorruptState, FlowNotFound, FlowqError
from flowq.model.filter import FlowFilter
from flowq.model.items import stage_of
from flowq.model.report import BulkError, BulkReport, DeadGroup, group_key, grouped
from flowq.model.snapshot import FlowSummary
from flowq.store.finder import Finder
from flowq.store.store import Store
from flowq.store.views import Views, cause_of
from flowq.store.wire import Head

_AT_ONCE = 8

Pages = AsyncIterator[list[FlowSummary]]
# What is done to one flow: how many stages it touched; None: there was nothing to do.
Deed = Callable[[FlowSummary], Awaitable[int | None]]
Foresee = Callable[[FlowSummary], Awaitable[int]]


async def do_to_each(report: BulkReport, pages: Pages, deed: Deed, foresee: Foresee) -> BulkReport:
    """Does it to every flow of the pages, or, in a dry run, only counts; returns the report.

    Args:
        report: a fresh one.
        pages: the flows, each once.
        deed: what to do.
        foresee: how many stages a dry run counts for a flow.
    """
    async for page in pages:
        for flow in page:
            report.note(flow)
        if report.is_dry_run:
            report.stages += await _foreseen(page, foresee)
            continue
        for start in range(0, len(page), _AT_ONCE):
            await asyncio.gather(*(_do(report, flow, deed) for flow in page[start : start + _AT_ONCE]))
    return report


async def _foreseen(page: list[FlowSummary], foresee: Foresee) -> int:
    stages = 0
    for start in range(0, len(page), _AT_ONCE):
        counts = await asyncio.gather(*(foresee(flow) for flow in page[start : start + _AT_ONCE]), return_exceptions=True)
        for count in counts:
            if isinstance(count, BaseException) and not isinstance(count, FlowqError):
                raise count
            stages += count if isinstance(count, int) else 0
    return stages


async def _do(report: BulkReport, flow: FlowSummary, deed: Deed) -> None:
    try:
        stages = await deed(flow)
    except FlowNotFound:
        report.unchanged += 1
    except FlowqError as error:
        report.errors.append(BulkError(flow.id, f"{type(error).__name__}: {error.problem}"))
    else:
        report.done += stages is not None
        report.unchanged += stages is None
        report.stages += stages or 0


class DeadLetters:
    """Failed flows, by what made them fail."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views
        self._finder = Finder(store, views)

    async def groups(self, wanted: FlowFilter) -> list[DeadGroup]:
        """All groups of the failed flows that fit, the largest first."""
        groups: dict[str, DeadGroup] = {}
        async for page in self._each(wanted):
            grouped(zip(page, await self.stages(page), strict=True), groups)
        return sorted(groups.values(), key=lambda group: (-group.count, group.key))

    async def members(self, key: str, wanted: FlowFilter) -> Pages:
        """The flows of one group, in pages."""
        async for page in self._each(wanted):
            stages = await self.stages(page)
            fitting = [
                flow for flow, stage in zip(page, stages, strict=True) if group_key(flow.pipeline, stage, flow.cause) == key
            ]
            if fitting:
                yield fitting

    async def stages(self, flows: Sequence[FlowSummary]) -> list[str]:
        """The name of the stage that failed first in each flow; "" where that is not known."""
        heads = await self._views.heads([flow.id for flow in flows])
        return [await self._stage(flow.id, *known) if known else "" for flow, known in zip(flows, heads, strict=True)]

    def _each(self, wanted: FlowFilter) -> Pages:
        """What failed after the end of a flow is a dead letter as well."""
        return self._finder.each(msgspec.structs.replace(wanted, state="failed", with_hooks=True))

    async def _stage(self, flow_id: str, digest: str, head: Head) -> str:
        index, _ = cause_of(head)
        try:
            plan = await self._store.plan(flow_id, digest)
            index = None if index is None else stage_of(index)  # items count as their map
            if index is None or index >= plan.head.stages:
                return ""
            await plan.load(index)
        except CorruptState:  # one damaged flow must not hide the others
            return ""
        return plan.stage(index).name
