"""Removes ended flows: archives them first where that was asked for, and their artifacts with them where that was.

Who removes is a duty, `flowq prune`, or somebody who discards dead letters; all come through here.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from typing import TypeVar
from urllib.parse import quote

import msgspec

from flowq.artifacts.storage import Storage
from flowq.errors import CorruptState, FlowNotFound, StorageNotConfigured, masked
from flowq.model.plain import plain
from flowq.settings import KeepSettings, Settings
from flowq.store.damage import text_of
from flowq.store.memos import forget_spared, spare, spared_until
from flowq.store.outlived import Doomed
from flowq.store.snapshots import Snapshots
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import Group

T = TypeVar("T")

log = logging.getLogger("flowq.engine")

# A file of the archive is closed when it is larger, so that a crowd of large flows does not fill the memory.
_ARCHIVE_BYTES = 4_000_000
# Of each map; the counts are of all.
_ARCHIVED_ITEMS_MAX = 10_000
_SPARED_PAGE = 200
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
        self._storage = storage
        self._keep = keep

    async def remove(self, doomed: Doomed) -> int:
        """Removes flows; returns how many.

        Raises:
            StorageNotConfigured, StorageError: they could not be archived; then none of them is removed.
        """
        flow_ids = [text_of(entry[16:]) for entry in doomed.entries]
        if self._keep.archive:
            await self._archive(flow_ids)
        storage = None if self._keep.artifacts else self._storage()
        spared = await self._spared(flow_ids) if storage is not None else frozenset[str]()
        removed = await self._store.prune(doomed.tag, doomed.before_ms, doomed.entries)
        if storage is not None:
            await self._delete_artifacts(storage, [flow_id for flow_id in flow_ids if flow_id not in spared])
        return removed

    async def remove_spared(self) -> None:
        """Removes artifacts that outlived their flow because of a cache, when no memo names them any more."""
        if self._keep.artifacts or (storage := self._storage()) is None:
            return
        now = await Views(self._store).now()
        for tag in self._store.partitions:
            while flow_ids := await spared_until(self._store, tag, now, _SPARED_PAGE):
                await self._delete_artifacts(storage, flow_ids)
                await forget_spared(self._store, tag, flow_ids)

    async def _spared(self, flow_ids: Sequence[str]) -> frozenset[str]:
        """Flows whose artifacts memos may name, and then flows that took them from there; it is noted until when."""
        views, spared, kept_ms = Views(self._store), set[str](), self._store.retention
        now = await views.now()
        for flow_id, known in zip(flow_ids, await views.heads(list(flow_ids)), strict=True):
            if known is None:
                continue
            try:
                cache_ms = (await self._store.plan(flow_id, known[0])).head.cache_ms
            except CorruptState:  # what it had is not known, nor what memos name
                cache_ms = 0
            longest = max(kept_ms.completed_ms, kept_ms.failed_ms, kept_ms.cancelled_ms)
            until = known[1].ended_at + cache_ms + longest
            if cache_ms and until > now:
                await spare(self._store, flow_id, until)
                spared.add(flow_id)
        return frozenset(spared)

    async def _delete_artifacts(self, storage: Storage, flow_ids: Sequence[str]) -> None:
        views = Views(self._store)
        gone = [flow_id for flow_id in flow_ids if not await views.exists(flow_id)]
        await abandonable(lambda: _delete_artifacts(storage, gone))

    async def _archive(self, flow_ids: Sequence[str]) -> None:
        storage = self._storage()
        if storage is None:
            raise StorageNotConfigured("finished flows are to be archived before they are removed")
        snapshots = Snapshots(self._store, Views(self._store))
        lines: list[bytes] = []
        for flow_id in flow_ids:
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


def _archived_items(_: str, group: Group) -> Iterable[int]:
    return range(min(group.count, _ARCHIVED_ITEMS_MAX))


async def _write(storage: Storage, lines: list[bytes]) -> None:
    folder = f"{_ARCHIVE}/{time.strftime('%Y-%m-%d', time.gmtime())}"
    name = f"{time.time_ns() // 1_000_000}-{secrets.token_hex(4)}.jsonl"
    await abandonable(lambda: storage.put_bytes(folder, name, b"\n".join([*lines, b""]), "application/jsonl"))


def _delete_artifacts(storage: Storage, flow_ids: Sequence[str]) -> None:
    for flow_id in flow_ids:
        # What ran after its end goes with it.
        for folder in ("/", quote("^end", safe="")):
            storage.delete(found.key for found in storage.objects(quote(flow_id, safe="") + folder))
