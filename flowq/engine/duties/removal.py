"""Removes ended flows: archives them first where that was asked for, and their artifacts with them where that was. What ran after
their end, and what their stages spawned, goes with them.

Who removes is a duty, `flowq prune`, or somebody who discards dead letters; all come through here.
"""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar
from urllib.parse import quote, unquote

import msgspec

from flowq.artifacts.storage import Storage
from flowq.errors import CorruptState, FlowNotFound, StorageNotConfigured, masked
from flowq.model.hooks import hooks_id, may_have_hooks
from flowq.model.plain import plain
from flowq.settings import KeepSettings, Settings
from flowq.store.damage import text_of
from flowq.store.hook_snapshots import hooking
from flowq.store.memos import forget_spared, spare, spared_until
from flowq.store.outlived import Doomed
from flowq.store.snapshots import Snapshots
from flowq.store.store import Store
from flowq.store.suspensions import Ended, Suspensions
from flowq.store.views import Views
from flowq.store.wire import Group

T = TypeVar("T")

log = logging.getLogger("flowq.engine")

# A file of the archive is closed when it is larger, so that a crowd of large flows does not fill the memory.
_ARCHIVE_BYTES = 4_000_000
# Of each map; the counts are of all.
_ARCHIVED_ITEMS_MAX = 10_000
_SPARED_PAGE = 200
# A flow that is held by its hooks does not expire for so long after it was last to be removed.
_HELD_MS = 7 * 86_400_000
# What flows of hooks have behind the id of their flow.
_HOOKS = re.compile(r"\^end\d*")
_ARCHIVE = "archive"


def archive_of(settings: Settings) -> str:
    """Where flows are written before they are removed, for people; empty: they are not."""
    if not settings.keep.archive:
        return ""
    return "/".join((masked(settings.artifacts).rstrip("/") or "the embedded storage", settings.namespace, _ARCHIVE))


async def abandonable(function: Callable[[], T]) -> T:
    """Runs a blocking call in a thread that nobody waits for any more once the caller is cancelled, not even the process's end:
    a storage that does not answer is asked again for minutes."""
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:  # whatever it is, it is for who waits, not for the thread
            outcome.set_exception(error)

    outcome.set_running_or_notify_cancel()
    threading.Thread(target=work, name="flowq-storage", daemon=True).start()
    return await asyncio.wrap_future(outcome)


class Remover:
    """Removes flows.

    Args:
        store: where they are.
        storage: where their artifacts are, and the archive is written; gives None where there is none.
        keep: whether to archive, and whether artifacts stay.
    """

    def __init__(
        self, store: Store, storage: Callable[[], Storage | None] = lambda: None, keep: KeepSettings = KeepSettings()
    ) -> None:
        self._store = store
        self._views = Views(store)
        self._suspensions = Suspensions(store)
        self._storage = storage
        self._keep = keep

    async def remove(self, doomed: Doomed) -> int:
        """Removes flows; returns how many.

        Raises:
            StorageNotConfigured, StorageError: they could not be archived; then none of them is removed.
        """
        doomed = doomed._replace(entries=await self._without_held(doomed.entries))
        flow_ids = [text_of(entry[16:]) for entry in doomed.entries]
        if self._keep.archive:
            await self._archive(flow_ids)
        storage = None if self._keep.artifacts else self._storage()
        spared = await self._spared(await self._ended(flow_ids)) if storage is not None else frozenset[str]()
        removed = await self._store.prune(doomed.tag, doomed.before_ms, doomed.entries)
        if storage is not None:
            await self._delete_artifacts(storage, flow_ids, spared, with_hooks=True)
        await self.fell(doomed.tag)
        return removed

    async def _without_held(self, entries: list[bytes]) -> list[bytes]:
        """Those whose hooks have ended. The script keeps the others, too, but they'd be archived before; nor may they expire."""
        held = await hooking(self._store, [text_of(entry[16:]) for entry in entries if may_have_hooks(text_of(entry[:16]))])
        if not held:
            return entries
        await self._store.connection.readable(*(("PEXPIRE", self._store.keys.flow(each), _HELD_MS, "GT") for each in held))
        return [entry for entry in entries if text_of(entry[16:]) not in held]

    async def fell(self, tag: str) -> None:
        """Removes what was spawned beneath flows of a partition that are gone; what still runs is closed first."""
        storage, is_more = None if self._keep.artifacts else self._storage(), True
        while is_more:
            felled = await self._suspensions.fell(tag)
            is_more = felled.is_more
            if storage is not None and felled.flows:
                spared = await self._spared(felled.flows)
                await self._delete_artifacts(storage, [flow.flow_id for flow in felled.flows], spared)

    async def remove_spared(self) -> None:
        """Removes artifacts that outlived their flow because of a cache, when no memo names them any more."""
        if self._keep.artifacts or (storage := self._storage()) is None:
            return
        now = await self._views.now()
        for tag in self._store.partitions:
            while flow_ids := await spared_until(self._store, tag, now, _SPARED_PAGE):
                await self._delete_artifacts(storage, flow_ids)
                await forget_spared(self._store, tag, flow_ids)

    async def _ended(self, flow_ids: Sequence[str]) -> list[Ended]:
        """These flows and their hooks, of those that are there."""
        heads = await self._views.heads(list(flow_ids))
        known = [Ended(flow_id, one[0], one[1].ended_at) for flow_id, one in zip(flow_ids, heads, strict=True) if one]
        hooks = await self._hooks_of(flow_ids)
        return known + (await self._ended(hooks) if hooks else [])

    async def _hooks_of(self, flow_ids: Sequence[str]) -> list[str]:
        """The ids of what ran after the ends of these flows."""
        heads = await self._views.heads(list(flow_ids))
        return [
            hooks_id(flow_id, run)
            for flow_id, known in zip(flow_ids, heads, strict=True)
            if known is not None and may_have_hooks(known[0])
            for run in range(1, known[1].run + 1)
        ]

    async def _spared(self, flows: Iterable[Ended]) -> frozenset[str]:
        """Flows whose artifacts memos may name, and then flows that took them from there; it is noted until when."""
        spared, kept_ms = set[str](), self._store.retention
        longest, now = max(kept_ms.completed_ms, kept_ms.failed_ms, kept_ms.cancelled_ms), await self._views.now()
        for flow in flows:
            try:
                cache_ms = (await self._store.plan(flow.flow_id, flow.plan)).head.cache_ms
            except CorruptState:  # what it had is not known, nor what memos name
                cache_ms = 0
            until = flow.ended_at + cache_ms + longest
            if cache_ms and until > now:
                await spare(self._store, flow.flow_id, until)
                spared.add(flow.flow_id)
        return frozenset(spared)

    async def _delete_artifacts(
        self, storage: Storage, flow_ids: Sequence[str], spared: Collection[str] = (), *, with_hooks: bool = False
    ) -> None:
        gone = [flow_id for flow_id in flow_ids if not await self._views.exists(flow_id)]
        await abandonable(lambda: _delete_artifacts(storage, gone, spared, with_hooks=with_hooks))

    async def _archive(self, flow_ids: Sequence[str]) -> None:
        storage = self._storage()
        if storage is None:
            raise StorageNotConfigured("finished flows are to be archived before they are removed")
        snapshots = Snapshots(self._store, self._views)
        lines: list[bytes] = []
        async for flow_id in self._families(flow_ids):
            try:
                lines.append(msgspec.json.encode(plain(await snapshots.snapshot(flow_id, _archived_items)), enc_hook=repr))
            except FlowNotFound:
                continue
            except CorruptState as damage:
                log.error("flow %s can't be archived: %s", flow_id, damage)
                lines.append(msgspec.json.encode({"id": flow_id, "error": damage.problem}))
            if sum(map(len, lines)) > _ARCHIVE_BYTES:
                await _write(storage, lines)
                lines = []
        if lines:
            await _write(storage, lines)

    async def _families(self, flow_ids: Sequence[str]) -> AsyncIterator[str]:
        """Each of these flows, what ran after its ends, and all that stands beneath the two."""
        heads = await self._views.heads(list(flow_ids))
        for flow_id, known in zip(flow_ids, heads, strict=True):
            for member in (flow_id, *await self._hooks_of([flow_id])):
                yield member
            if known is None:
                continue
            async for page in self._suspensions.all_beneath(flow_id, known[1], None):
                for member in (*page, *await self._hooks_of(page)):
                    yield member


def _archived_items(_: str, group: Group) -> Iterable[int]:
    return range(min(group.count, _ARCHIVED_ITEMS_MAX))


async def _write(storage: Storage, lines: list[bytes]) -> None:
    folder = f"{_ARCHIVE}/{time.strftime('%Y-%m-%d', time.gmtime())}"
    name = f"{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}.jsonl"
    await abandonable(lambda: storage.put_bytes(folder, name, b"\n".join([*lines, b""]), "application/jsonl"))


def _delete_artifacts(storage: Storage, flow_ids: Iterable[str], spared: Collection[str], *, with_hooks: bool) -> None:
    for flow_id in flow_ids:
        if flow_id not in spared:
            storage.delete(found.key for found in storage.objects(quote(flow_id, safe="") + "/"))
        if with_hooks:
            # How often it was retried is not known of one that had expired.
            found = [(each.key, _owner(each.key)) for each in storage.objects(quote(f"{flow_id}^end", safe=""))]
            storage.delete(key for key, owner in found if owner not in spared and _HOOKS.fullmatch(owner[len(flow_id) :]))


def _owner(key: str) -> str:
    """The id of the flow that an object belongs to: its key ends in `<flow>/<stage>/<token>/<name>`."""
    return unquote(key.split("/")[-4]) if key.count("/") > 2 else ""
