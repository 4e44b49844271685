"""Finds ended flows that need not be kept any longer. Changes nothing but lists of those that were handled."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec

from flowq.model.keep import Keep
from flowq.model.names import parent_id
from flowq.model.states import FINAL
from flowq.store.damage import sound, text_of, up_to_damage
from flowq.store.finder import Place, walk
from flowq.store.keys import BY, CANCELLED, FAILED, FINISHED, FLOW, PIPELINES, PLAN
from flowq.store.store import Store
from flowq.store.views import FLOW_STATES, Views

_PAGE = 200
# A pass over one index stops here and the next one goes on, so that no pass is endless.
_PAGES_MAX = 500
_HOUR_MS = 3_600_000
# An hour's list is handled when the hour is over, in the next pass: what is older than this by then was not, or was held back.
_HANDLED_MS = 2 * _HOUR_MS
_PIPELINES_KNOWN_MAX = 10_000

_keep = msgspec.msgpack.Decoder(Keep)


class Doomed(NamedTuple):
    """Flows of one partition to be removed, if they ended before `before_ms` and still stand so.

    Attributes:
        tag: the partition.
        before_ms: milliseconds since 1970.
        entries: each flow as its plan's digest and its id in one word.
    """

    tag: str
    before_ms: int
    entries: list[bytes]


class Outlived:
    """The flows whose retention is over.

    Args:
        store: whose `retention` says how long flows are kept.
        views: of the same.
        most: how many are kept of each pipeline, where it does not say so itself.
    """

    def __init__(self, store: Store, views: Views, most: Keep = Keep()) -> None:
        self._store = store
        self._views = views
        self._most = most
        self._command = store.connection.command
        self._pipelines: dict[bytes, str] = {}
        # How many were passed over in an index when a pass stopped there. Those that went since may let it miss some, until it
        # has come to the end and begins anew.
        self._passed_over: dict[str, int] = {}

    async def by_age(self, hours: int) -> AsyncIterator[Doomed]:
        """Flows that are older than flows are kept, but those of pipelines that say themselves how long.

        Args:
            hours: how far to look back behind the retention of completed flows.
        """
        await self._store.refuse_without_rights()
        now = await self._views.now()
        for tag in self._store.partitions:
            async for doomed in self._by_age_in(tag, now, hours):
                yield doomed

    async def by_pipeline(self) -> AsyncIterator[Doomed]:
        """Flows beyond what their pipeline says of ages, and it or the namespace of counts; and what is left of old flows.

        Completed ones are listed by the hour, and a list is handled once, which leaves those whose hooks had not ended, or that
        were to be kept longer then.
        """
        now = await self._views.now()
        for tag in self._store.partitions:
            async for doomed in self._by_pipeline_in(tag, now):
                yield doomed

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _by_age_in(self, tag: str, now: int, hours: int) -> AsyncIterator[Doomed]:
        retention = self._store.retention
        own = {name for name, keep in (await self._kept(tag)).items() if keep is None or keep.has_ages}
        for key, kept_ms in ((FAILED, retention.failed_ms), (CANCELLED, retention.cancelled_ms)):
            async for doomed in up_to_damage(self._indexed(tag, tag + key, now - kept_ms, own), tag + key):
                yield doomed
        before = now - retention.completed_ms
        keys = [f"{tag}{FINISHED}{hour}" for hour in range(before // _HOUR_MS - hours, before // _HOUR_MS)]
        # Mostly there are none: one question instead of one for each.
        for key in keys if await self._command("EXISTS", *keys) else ():
            async for doomed in up_to_damage(self._finished(tag, key, before, own), key):
                yield doomed

    async def _by_pipeline_in(self, tag: str, now: int) -> AsyncIterator[Doomed]:
        retention = self._store.retention
        usual = self._most.or_else(Keep(retention.completed_ms, retention.failed_ms, retention.cancelled_ms))
        for pipeline, keep in (await self._kept(tag)).items():
            if keep is None:
                continue
            is_usual = keep == Keep() and not self._most.has_counts
            after = Place(now - retention.completed_ms - _HANDLED_MS, "") if is_usual else None
            key = f"{tag}{BY}pipeline:{pipeline}"
            async for doomed in up_to_damage(self._beyond(tag, key, keep.or_else(usual), now, after), key):
                yield doomed

    async def _kept(self, tag: str) -> dict[str, Keep | None]:
        """All pipelines, with what they say themselves; None: that can't be read, so their flows are kept until they expire."""
        answers: list[dict[bytes, bytes] | None] = await self._store.connection.readable(("HGETALL", tag + PIPELINES))
        return {text_of(name): sound(_keep, data) if data else Keep() for name, data in (answers[0] or {}).items()}

    async def _indexed(self, tag: str, key: str, before: int, own: set[str]) -> AsyncIterator[Doomed]:
        passed_over = self._passed_over.pop(key, 0)
        for _ in range(_PAGES_MAX):
            ids: list[bytes] = await self._command("ZRANGEBYSCORE", key, "-inf", before, "LIMIT", passed_over, _PAGE)
            plans = await self._store.connection.readable(*(("HGET", tag + FLOW + text_of(flow_id), "p") for flow_id in ids))
            entries = [(plan or b"?" * 16) + flow_id for plan, flow_id in zip(plans, ids, strict=True)]
            if doomed := await self._without(tag, await self._alone(entries), own):
                yield Doomed(tag, before + 1, doomed)
            if len(ids) < _PAGE:
                return
            # Also of the doomed some may stay, for their hooks.
            passed_over += sum(score is not None for score in await self._command("ZMSCORE", key, *ids))
        self._passed_over[key] = passed_over

    async def _finished(self, tag: str, key: str, before: int, own: set[str]) -> AsyncIterator[Doomed]:
        """Completed flows of an hour that is over. The list goes when all that it holds were handled."""
        start = 0
        while entries := await self._command("LRANGE", key, start, start + _PAGE - 1):
            if doomed := await self._without(tag, entries, own):
                yield Doomed(tag, before + 1, doomed)
            start += _PAGE
        if start:
            await self._command("UNLINK", key)

    async def _alone(self, entries: list[bytes]) -> list[bytes]:
        """Those that do not go with another flow: what ran after the end of one that is there does."""
        above = [parent_id(entry[16:].decode("utf-8", "replace")) for entry in entries]
        gone = {flow_id for flow_id in above if flow_id is not None and not await self._views.exists(flow_id)}
        return [entry for entry, flow_id in zip(entries, above, strict=True) if flow_id is None or flow_id in gone]

    async def _without(self, tag: str, entries: list[bytes], own: set[str]) -> list[bytes]:
        """Those of other pipelines than these."""
        if not own:
            return entries
        unknown = list({entry[:16] for entry in entries if entry[:16] not in self._pipelines})
        names = await self._store.connection.readable(*(("HGET", tag + PLAN + text_of(digest), "pipeline") for digest in unknown))
        if len(self._pipelines) > _PIPELINES_KNOWN_MAX:
            self._pipelines.clear()
        self._pipelines |= {digest: text_of(name) for digest, name in zip(unknown, names, strict=True) if name}
        return [entry for entry in entries if self._pipelines.get(entry[:16]) not in own]

    async def _beyond(self, tag: str, key: str, keep: Keep, now: int, after: Place | None) -> AsyncIterator[Doomed]:
        newer: Counter[str] = Counter()
        async for places in walk(self._command, key, after):
            entries: list[bytes] = []
            latest = 0
            heads = await self._views.heads([place.flow_id for place in places])
            for place, known in zip(places, heads, strict=True):
                if known is None:
                    continue
                digest, head = known
                state = FLOW_STATES.get(head.status)
                if state is None or state not in FINAL or not head.ended_at:
                    continue
                if keep.is_over(state, now - head.ended_at, newer[state], len(self._store.partitions)):
                    entries.append(f"{digest}{place.flow_id}".encode())
                    latest = max(latest, head.ended_at)
                newer[state] += 1
            if entries:
                yield Doomed(tag, latest + 1, entries)
