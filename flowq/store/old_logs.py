"""Removes what stages logged in flows that ended long ago, where logs are kept for a shorter time than flows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from flowq.errors import CorruptState
from flowq.model.hooks import hooks_id, may_have_hooks
from flowq.model.items import item_index
from flowq.store.damage import text_of, up_to_damage
from flowq.store.keys import CANCELLED, FAILED, FINISHED, UNLOGGED
from flowq.store.maps import group_of
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import Head

_PAGE = 200
_HOUR_MS = 3_600_000
_FIELDS_AT_ONCE, _DELETIONS_AT_ONCE = 1_000, 100


class OldLogs:
    """The logs of flows that have ended.

    Completed flows are listed by the hour, so this looks at whole hours, each once: how far it has come stands in the server.
    Should that be lost, it looks at all again.

    Args:
        store, views: where they are.
        kept_ms: how long after a flow's end its logs are kept.
    """

    def __init__(self, store: Store, views: Views, kept_ms: int) -> None:
        self._store = store
        self._views = views
        self._kept_ms = kept_ms
        self._command = store.connection.command

    async def remove(self) -> None:
        """Removes those whose time is over."""
        before = (await self._views.now() - self._kept_ms) // _HOUR_MS * _HOUR_MS
        for tag in self._store.partitions:
            known = await self._command("GET", tag + UNLOGGED)
            since = int(known or 0)
            if since >= before:
                continue
            async for flow_ids in self._ended(tag, since, before):
                await self._remove_of(flow_ids, before)
            longest = max(self._store.retention.completed_ms, self._store.retention.failed_ms, self._store.retention.cancelled_ms)
            await self._command("SET", tag + UNLOGGED, before, "PX", max(longest, 0) + 2 * _HOUR_MS)

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _ended(self, tag: str, since: int, before: int) -> AsyncIterator[list[str]]:
        for key in (tag + FAILED, tag + CANCELLED):
            async for page in up_to_damage(self._indexed(key, since, before), key):
                yield page
        earliest = max(since, before - self._store.retention.completed_ms)
        for hour in range(earliest // _HOUR_MS, before // _HOUR_MS):
            key = f"{tag}{FINISHED}{hour}"
            async for page in up_to_damage(self._finished(key), key):
                yield page

    async def _indexed(self, key: str, since: int, before: int) -> AsyncIterator[list[str]]:
        start = 0
        while ids := await self._command("ZRANGEBYSCORE", key, since, f"({before}", "LIMIT", start, _PAGE):
            yield [text_of(flow_id) for flow_id in ids]
            start += _PAGE

    async def _finished(self, key: str) -> AsyncIterator[list[str]]:
        start = 0
        while entries := await self._command("LRANGE", key, start, start + _PAGE - 1):
            yield [text_of(entry[16:]) for entry in entries]
            start += _PAGE

    async def _remove_of(self, flow_ids: list[str], before: int) -> None:
        heads = await self._views.heads(flow_ids)
        # One that was retried since is listed again when it ends.
        ended = {
            flow_id: known
            for flow_id, known in zip(flow_ids, heads, strict=True)
            if known is not None and 0 < known[1].ended_at < before
        }
        # Hooks that completed are listed nowhere; those that still run keep what they log until their flow goes.
        hooks = [
            hooks_id(flow_id, run)
            for flow_id, (digest, head) in ended.items()
            if may_have_hooks(digest)
            for run in range(1, head.run + 1)
        ]
        for flow_id, known in zip(hooks, await self._views.heads(hooks), strict=True):
            if known is not None and known[1].ended_at:
                ended[flow_id] = known
        await self._remove_from(ended)

    async def _remove_from(self, flows: Mapping[str, tuple[str, Head]]) -> None:
        deletions: list[tuple[Any, ...]] = []
        for flow_id, known in flows.items():
            async for indexes in self._indexes(flow_id, known[0]):
                deletions.append(("HDEL", self._store.keys.flow(flow_id), *(f"l{index}" for index in indexes)))
                if len(deletions) >= _DELETIONS_AT_ONCE:
                    await self._store.connection.readable(*deletions)
                    deletions.clear()
        await self._store.connection.readable(*deletions)

    async def _indexes(self, flow_id: str, digest: str) -> AsyncIterator[range]:
        """Those of a flow's stages and items, in pages."""
        try:
            plan = await (await self._store.plan(flow_id, digest)).whole()
            counts = {0: len(plan.stages)}
            for stage in (index for index, one in enumerate(plan.stages) if one.mapping is not None):
                if (group := await group_of(self._store, flow_id, stage)) is not None:
                    counts[item_index(stage, 0)] = group.count
        except CorruptState:  # they go with the flow
            return
        for first, count in counts.items():
            for start in range(first, first + count, _FIELDS_AT_ONCE):
                yield range(start, min(start + _FIELDS_AT_ONCE, first + count))
