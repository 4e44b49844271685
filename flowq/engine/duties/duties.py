"""What keeps the house in order while workers live: rescuing, finishing cancellations, pruning, sweeping. Each duty is
one object with one coroutine, `run_once`; `run_every` repeats it. All of them may run in many processes at once.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection

from flowq.artifacts.keys import FolderId
from flowq.artifacts.storage import Storage
from flowq.artifacts.sweep import sweep
from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.duties.closing import finish_closing
from flowq.engine.duties.lease import LEASE_MS_MAX
from flowq.engine.duties.removal import Remover, abandonable
from flowq.errors import CorruptState
from flowq.model.keep import Keep
from flowq.settings import KeepSettings
from flowq.store.old_logs import OldLogs
from flowq.store.outlived import Doomed, Outlived
from flowq.store.store import Store
from flowq.store.views import Views

log = logging.getLogger("flowq.engine")

# Rules of pipelines are looked after at every tenth pass only: whatever they keep is counted then.
_PASSES_PER_COUNT = 10
# For how long way is made for suspects the first time, and how much longer the time is from one such time to the next.
_WAY_SECONDS, _WAY_EVERY = 10.0, 6


async def rescue(
    store: Store, holder: str, cause: str, deadline: str = "", tags: list[str] | None = None, *, is_crash: bool = True
) -> int:
    """Takes back all stages of a holder that is gone; returns how many.

    Unless it was a crash, nobody is charged with it: the process was stopped, or lost its lease.
    """
    # Asked before the first are taken: who was alone in its partition was not always alone in the process.
    is_alone = is_crash and await store.is_alone(holder)
    rescued = 0
    for tag in tags or store.partitions:
        rescued += await store.rescue(tag, holder, cause, deadline, is_crash=is_crash, is_alone=is_alone)
    if rescued:
        log.warning("rescued %d stage%s of %s: %s", rescued, "s" * (rescued != 1), holder, cause)
    return rescued


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

    `flowq worker` has a child for them; an embedded worker has nobody but itself. So that a suspect does not shut it for as long
    as its longest stage runs, way is made for a sixth of the time only, each time twice as long as before.

    Args:
        views: where suspects are seen.
        room: the process's.
        clock: gives seconds.
    """

    def __init__(self, views: Views, room: WorkerRoom, clock: Callable[[], float] = time.monotonic) -> None:
        self._views = views
        self._room = room
        self._clock = clock
        self._began_at: float | None = None
        self._seconds = _WAY_SECONDS

    async def run_once(self) -> None:
        """One look at the lanes of suspects: where one waits, or waits no longer because somebody else has taken it."""
        waiting = [] if self._room.is_idle else await self._views.waiting(self._room.suspect_routes)
        self._room.make_way(waiting if self._is_time(bool(waiting)) else ())

    def _is_time(self, is_needed: bool) -> bool:
        if not is_needed:
            self._began_at, self._seconds = None, _WAY_SECONDS
            return False
        now = self._clock()
        if self._began_at is None:
            self._began_at = now
        elif now >= self._began_at + _WAY_EVERY * self._seconds:
            self._began_at, self._seconds = now, 2 * self._seconds
        return now < self._began_at + self._seconds


class Closer:
    """Finishes cancellations of large flows, and stops what runs of maps that have ended, where who began it went away."""

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views

    async def run_once(self) -> None:
        """One pass over all that is being closed."""
        for member in await self._views.closing():
            try:
                await finish_closing(self._store, member)
            except CorruptState as damage:
                log.error("what is being closed can't be finished: %s", damage)


class Pruner:
    """Removes ended flows whose retention is over, and their logs if that is over before, and bounds the event streams.

    Args:
        store: where they are, and how long they are kept.
        views: of the same.
        remover: how flows are removed.
        most: how many are kept of each pipeline.
        keep: for how long logs and events are kept.
    """

    def __init__(
        self, store: Store, views: Views, remover: Remover | None = None, most: Keep = Keep(), keep: KeepSettings = KeepSettings()
    ) -> None:
        self._store = store
        self._views = views
        self._keep = keep
        self._old_logs = None if keep.logs_ms is None else OldLogs(store, views, keep.logs_ms)
        self._outlived = Outlived(store, views, most)
        self._remover = remover or Remover(store)
        self._hours = 48
        self._passes = 0

    async def run_once(self) -> int:
        """One pass; returns how many flows were removed."""
        removed = 0
        async for doomed in self._outlived.by_age(self._hours):
            removed += await self._removed(doomed)
        self._hours = 2  # the first pass looks for what nobody pruned while no worker ran
        if self._passes % _PASSES_PER_COUNT == 0:
            async for doomed in self._outlived.by_pipeline():
                removed += await self._removed(doomed)
        self._passes += 1
        await self._remover.remove_spared()
        for tag in self._store.partitions:
            await self._remover.fell(tag)
        if self._old_logs is not None:
            await self._old_logs.remove()
        await self._views.trim_events(self._keep.events_ms, self._keep.events_most)
        return removed

    async def _removed(self, doomed: Doomed) -> int:
        try:
            return await self._remover.remove(doomed)
        except CorruptState as damage:
            log.error("flows whose retention is over can't be removed: %s", damage)
            return 0


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
        swept = await abandonable(lambda: sweep(storage, committed, self._grace_seconds))
        if swept.deleted:
            log.info("swept %s orphaned artifacts", swept.deleted)
