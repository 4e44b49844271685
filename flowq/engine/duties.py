"""What keeps the house in order while workers live: rescuing, finishing cancellations, pruning, sweeping. Each duty is
one object with one coroutine, `run_once`; `run_every` repeats it. All of them may run in many processes at once.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future
from typing import TypeVar

from flowq.artifacts.keys import FolderId
from flowq.artifacts.storage import Storage
from flowq.artifacts.sweep import sweep
from flowq.engine.lease import LEASE_MS_MAX
from flowq.engine.room import WorkerRoom
from flowq.errors import FlowNotFound
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views

T = TypeVar("T")

log = logging.getLogger("flowq.engine")


async def rescue(
    store: Store, holder: str, cause: str, deadline: str = "", tags: list[str] | None = None, *, is_crash: bool = True
) -> int:
    """Takes back all stages of a holder that is gone; returns how many.

    Unless it was a crash, nobody is charged with it: the process was stopped, or lost its lease.
    """
    rescued = 0
    for tag in tags or store.partitions:
        rescued += await store.rescue(tag, holder, cause, deadline, is_crash=is_crash)
    if rescued:
        log.warning("rescued %d stages of %s: %s", rescued, holder, cause)
    return rescued


async def _abandonable(function: Callable[[], T]) -> T:
    """Runs a blocking call in a thread that nobody waits for any more once the caller is cancelled, not even the process's end:
    a storage that does not answer is asked again for minutes."""
    outcome: Future[T] = Future()

    def work() -> None:
        try:
            outcome.set_result(function())
        except BaseException as error:
            outcome.set_exception(error)

    outcome.set_running_or_notify_cancel()
    threading.Thread(target=work, name="flowq-sweep", daemon=True).start()
    return await asyncio.wrap_future(outcome)


class Rescuer:
    """Rescues the stages of holders whose lease ran out: of workers that were killed, or lost their host or network."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def run_once(self) -> None:
        """One look at all leases; a holder is given up at the second look that finds it late."""
        for tag in self._store.partitions:
            for holder, deadline in await self._store.overdue(tag, LEASE_MS_MAX):
                await rescue(self._store, holder, "its lease ran out", deadline, [tag])


class WayMaker:
    """Lets a busy process make way for suspects, which run only where nothing else does.

    `flowq worker` has a child for them; an embedded worker has nobody but itself.
    """

    def __init__(self, views: Views, room: WorkerRoom) -> None:
        self._views = views
        self._room = room

    async def run_once(self) -> None:
        """One look at the lanes of suspects: whether one waits, or waits no longer because somebody else has taken it."""
        backlog = await self._views.backlog(self._room.suspect_routes)
        self._room.make_way(is_needed=any(backlog.values()))


class Closer:
    """Finishes cancellations of large flows whose client went away in the middle."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views

    async def run_once(self) -> None:
        """One pass over the flows that are being cancelled."""
        for flow_id, cursor in await self._views.closing():
            try:
                stages = (await self._views.header(flow_id)).stages
            except FlowNotFound:
                stages = 0  # deleted by hand: the store then forgets that it was to be cancelled
            await self._store.cancel(flow_id, "", stages, cursor)


class Pruner:
    """Removes ended flows whose retention is over, and bounds the event streams."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views
        self._suspensions = Suspensions(store)
        self._hours = 48

    async def run_once(self) -> int:
        """One pass; returns how many flows were removed."""
        removed = 0
        for tag in self._store.partitions:
            for before_ms, flows in await self._views.outlived(tag, self._store.retention, self._hours):
                removed += await self._store.prune(tag, before_ms, flows)
            while await self._suspensions.fell(tag):
                pass
        self._hours = 2  # the first pass looks for what nobody pruned while no worker ran
        await self._views.trim_events()
        return removed


class Sweeper:
    """Deletes objects of runs that never completed: of crashed workers, of zombies, of pruned flows."""

    def __init__(self, views: Views, storage: Callable[[], Storage | None], grace_seconds: float = 3_600) -> None:
        self._views = views
        self._storage = storage
        self._grace_seconds = grace_seconds

    async def run_once(self) -> None:
        """One pass over the storage."""
        loop = asyncio.get_running_loop()

        def committed(folders: Collection[FolderId]) -> set[FolderId]:
            return asyncio.run_coroutine_threadsafe(self._views.committed(folders), loop).result()

        if (storage := self._storage()) is None:
            return
        swept = await _abandonable(lambda: sweep(storage, committed, self._grace_seconds))
        if swept.deleted:
            log.info("swept %s orphaned artifacts", swept.deleted)
