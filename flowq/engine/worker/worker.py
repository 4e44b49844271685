"""`Worker`: claims and runs stages inside your own process. `flowq worker` runs the same in child processes of a supervisor."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, cast

from flowq.engine.backend import LAST_WORDS_SECONDS, WORKER_PATIENCE, Backend
from flowq.engine.capacity.host_room import HostRoom, host_room, needs_of, slots_directory, this_host
from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.capacity.slots import SLOTS_MAX, QueueSlots
from flowq.engine.code.serving import announce, labels_of, limited_queues, listed, own_queues, routes_of, served_stages
from flowq.engine.duties.duties import Closer, Pruner, Rescuer, Sweeper, WayMaker, rescue
from flowq.engine.duties.every import run_every
from flowq.engine.duties.hints import Hints, WhenNeeded
from flowq.engine.duties.lease import LEASE_MS, LeaseKeeper
from flowq.engine.duties.removal import Remover
from flowq.engine.duties.scheduler import SCHEDULE_SECONDS, Makers, Scheduler, makers_of
from flowq.engine.exchange.holder import Holder, new_holder_id
from flowq.engine.worker.idleness import AtRest, Idleness
from flowq.errors import FlowqError, InvalidValue
from flowq.model.duration import Duration, to_ms
from flowq.model.names import check_name, checked_room
from flowq.model.setting_values import CONCURRENCY_MAX, IDLE_MS_MIN
from flowq.pipeline import Pipeline, Stage
from flowq.settings import Settings
from flowq.store.ending import end
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import HolderInfo

log = logging.getLogger("flowq.engine")

LEASE_MS_MIN = 1_000
# How long a worker that is cancelled may take to hand back what runs.
_HAND_BACK_SECONDS = 10.0
_RESCUE_SECONDS = 1.0
_CLOSE_SECONDS = 5.0
_MAKE_WAY_SECONDS = 3.0
_PRUNE_SECONDS = 60.0
_SWEEP_SECONDS = 600.0
# More stages than these are counted, not named.


class Worker:
    """Runs stages in this process: `async def` ones in its event loop, the others in threads.

    It installs no signal handlers, and renews its own lease from a thread. A stage that holds the GIL for longer than the
    lease stops that thread too: the stage is then given to another worker and runs twice, and only the later run's result is
    kept. `flowq worker` has no such limit, and takes over a crashed stage within a second; use it where you can.

    Stages with `isolation="process"` run in this process as well: process isolation needs `flowq worker`. So do suspects, stages
    whose process died under them: alone, when all else that runs here has ended; while one waits, nothing new is begun.

    Args:
        url: the server, as for `FlowProducer`.
        pipelines: pipelines whose stages it serves.
        stages: further stages it serves.
        queues: queue → how many of its stages run at once on this host (None: as many as there is room for). Not given: all
            queues of its stages.
        concurrency: how many stages it runs at once.
        has: what this host has of what stages need, such as `{"gpu": 1, "vram": 40}`; shared by its worker processes.
        namespace: as for `FlowProducer`.
        artifacts: as for `FlowProducer`.
        lease: how long after its last sign of life its stages are given to others; 15 s by default, at least 1 s.
        drain_timeout: how long `stop` lets running stages go on before they are handed back; 30 s by default.
        name: shown in `flowq inspect`; host and process by default.
        settings: settings that were loaded already.
        idle_timeout: `run` returns by itself when nothing has run here for so long, and nothing waits for this worker or will
            within that time, of 100 ms at least; None: never.

    Raises:
        InvalidValue, DefinitionError: an option is out of range; it has no stage to serve.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        pipelines: Iterable[Pipeline[..., Any]] = (),
        stages: Iterable[Stage[..., Any]] = (),
        queues: Mapping[str, int | None] | None = None,
        concurrency: int = 50,
        namespace: str | None = None,
        artifacts: str | None = None,
        lease: Duration = LEASE_MS / 1000,
        drain_timeout: Duration = "30s",
        name: str | None = None,
        settings: Settings | None = None,
        has: Mapping[str, int] = {},
        idle_timeout: Duration | None = None,
    ) -> None:
        base = settings or Settings.load()
        self._settings = Settings(
            url=base.url if url is None else url,
            namespace=base.namespace if namespace is None else namespace,
            artifacts=base.artifacts if artifacts is None else artifacts,
            worker=base.worker,
            keep=base.keep,
        )
        if type(cast("object", concurrency)) is not int or not 1 <= concurrency <= CONCURRENCY_MAX:
            raise InvalidValue("concurrency", concurrency, f"a whole number from 1 to {CONCURRENCY_MAX:,}")
        self._concurrency = concurrency
        pipelines, stages = listed("pipelines", pipelines, Pipeline), listed("stages", stages, Stage)
        self._stages = served_stages(pipelines, stages)
        self._makers = makers_of(pipelines, self._stages.values())
        if queues is not None and not isinstance(cast("object", queues), Mapping):
            raise InvalidValue("queues", queues, 'a dict such as {"gpu": 1, "cpu": None}')
        for queue, slots in (queues or {}).items():
            check_name(queue, "queue")
            if slots is not None and not (type(slots) is int and 1 <= slots <= SLOTS_MAX):
                raise InvalidValue(f"slots of queue {queue!r}", slots, f"None or a whole number from 1 to {SLOTS_MAX:,}")
        self._queues = queues
        self._has = dict(checked_room(has, "has"))
        self._lease_ms = to_ms(lease, "lease", least_ms=LEASE_MS_MIN)
        self._drain_seconds = to_ms(drain_timeout, "drain_timeout") / 1000
        self._idle_ms = None if idle_timeout is None else to_ms(idle_timeout, "idle_timeout", least_ms=IDLE_MS_MIN)
        self._name = check_name(name, "name") if name else default_name()
        self._stopping = asyncio.Event()
        self._backend: Backend | None = None
        self._holder: Holder | None = None
        self._has_run = False
        self._draining: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Works until `stop`, or until the task that runs it is cancelled (then what runs is handed back at once).

        Raises:
            InvalidValue: it runs already, or ran: a worker runs once.
            ServerError, EmbeddedError: the server can't be used.
        """
        if self._has_run:
            raise InvalidValue("Worker.run()", "called twice", "one call: make another Worker")
        self._has_run = True
        backend = await Backend.open(self._settings, name=f"flowq:worker:{self._name}", connections=4, patience=WORKER_PATIENCE)
        self._backend = backend
        backend.on_moved = self._move
        async with contextlib.AsyncExitStack() as house:
            house.push_async_callback(backend.close)
            slots = host_slots(self._settings.namespace, self._queues or {})
            if slots is not None:
                house.callback(slots.retire)
            host = host_room(self._settings.namespace, self._has, self._stages.values())
            if host is not None:
                house.callback(host.retire)
            hints = Hints(backend.store.partitions)
            for duty in background_duties(backend, over := asyncio.Event(), hints, self._makers):
                house.push_async_callback(end, asyncio.create_task(duty))
            if self._idle_ms is not None:
                idleness = Idleness(backend.store, self._idle_ms, self._at_rest, self._stop_idle)
                watching = run_every(idleness.look_seconds, idleness, stop=over, name="watching for work")
                house.push_async_callback(end, asyncio.create_task(watching))
            house.callback(over.set)
            announce(self._name, self._stages, routes_of(self._stages.values(), self._queues), own_queues(self._stages.values()))
            while not self._stopping.is_set():
                await self._one_life(backend, slots, host, hints)

    async def stop(self) -> None:
        """Claims no more, waits for what runs (at most `drain_timeout`), hands the rest back, and makes `run` return.

        A stage that is handed back loses no attempt.
        """
        if (draining := self._begin_to_stop()) is not None:
            await asyncio.shield(draining)

    def _begin_to_stop(self) -> asyncio.Task[None] | None:
        self._stopping.set()
        if self._draining is None and self._holder is not None:
            self._draining = asyncio.create_task(self._drain(self._holder))
        return self._draining

    def _at_rest(self) -> AtRest | None:
        if (holder := self._holder) is None or holder.running:
            return None
        served = routes_of(self._stages.values(), self._queues)
        return AtRest.of((route for routes in served.values() for route in routes), (holder.begun,))

    def _stop_idle(self) -> None:
        if not self._stopping.is_set():
            log.info("worker %s stops: it had nothing to do for its idle timeout", self._name)
            self._begin_to_stop()

    async def _drain(self, holder: Holder) -> None:
        await holder.drain(self._drain_seconds)
        if self._backend is not None:
            self._backend.store.connection.patience = LAST_WORDS_SECONDS

    def _move(self) -> None:
        if self._holder is not None:
            self._holder.lose("artifacts are kept elsewhere now")

    async def _one_life(self, backend: Backend, slots: QueueSlots | None, host: HostRoom | None, hints: Hints) -> None:
        """Works under one holder id, until stopped or until its lease is lost."""
        store, holder_id = backend.store, new_holder_id(self._name)
        routes = routes_of(self._stages.values(), self._queues)
        room = WorkerRoom(routes, self._concurrency, slots=slots, limited=limited_queues(self._queues), host=host)
        await self._register(store, holder_id, room, tuple(routes))
        self._holder = holder = Holder(store, holder_id, room, self._stages, backend.storage, self._concurrency, hints=hints)
        loop, lost = asyncio.get_running_loop(), self._holder.lose

        def on_lost(why: str) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended before the thread
                loop.call_soon_threadsafe(lost, why)

        keeper = LeaseKeeper(
            backend.settings.url, self._settings.namespace, holder_id, self._lease_ms, on_lost, lambda: holder.limiter.asked
        )
        keeper.start()
        if self._stopping.is_set():  # stop() came before there was a holder to drain
            self._draining = asyncio.create_task(self._drain(self._holder))
        working = asyncio.create_task(self._holder.work(backend.wakeups))
        making_way = run_every(_MAKE_WAY_SECONDS, WayMaker(Views(store), room), stop=asyncio.Event(), name="looking for suspects")
        ways = asyncio.create_task(making_way)
        try:
            await asyncio.shield(working)
        except asyncio.CancelledError:
            # What can't be handed back now is rescued when the lease has run out.
            with contextlib.suppress(TimeoutError, FlowqError):
                async with asyncio.timeout(_HAND_BACK_SECONDS):
                    await self._holder.drain(0)
                    await working
                    await rescue(store, holder_id, "its worker was cancelled", is_crash=False)
            raise
        finally:
            await asyncio.to_thread(keeper.stop)
            working.cancel()
            await end(ways)
            backend.wakeups.forget(holder_id)
        if self._holder.lost_because:
            log.warning("worker %s begins again, because %s", self._name, self._holder.lost_because)
        await rescue(store, holder_id, self._holder.lost_because or "its worker has stopped", is_crash=False)

    async def _register(self, store: Store, holder_id: str, room: WorkerRoom, queues: tuple[str, ...]) -> None:
        info = HolderInfo(
            self._name, queues, labels_of(self._stages), room.routes, self._concurrency,
            pipelines=tuple(self._makers), has=self._has, host=this_host(), needs=needs_of(self._stages.values()),
        )  # fmt: skip
        for tag in store.partitions:
            await store.register(tag, holder_id, self._lease_ms, info)


def host_slots(namespace: str, queues: Mapping[str, int | None]) -> QueueSlots | None:
    """The slots of this host for the queues that have a limit; None if none has."""
    limits = {queue: count for queue, count in queues.items() if count is not None}
    if not limits:
        return None
    return QueueSlots(slots_directory(namespace), limits)


def default_name() -> str:
    """Host and process."""
    return f"{socket.gethostname().split('.')[0][:40]}-{os.getpid()}"


def background_duties(
    backend: Backend, over: asyncio.Event, hints: Hints, makers: Makers | None = None
) -> list[Coroutine[Any, Any, None]]:
    """The duties of a process that keeps the house in order, as coroutines."""
    store, views, keep = backend.store, Views(backend.store), backend.settings.keep
    pruner = Pruner(store, views, Remover(store, lambda: backend.storage, keep), keep.counts, keep)
    rescuer = WhenNeeded(Rescuer(store), hints, lambda house: house.late > 0)
    closer = WhenNeeded(Closer(store, views), hints, lambda house: house.closing > 0, _CLOSE_SECONDS)
    duties: list[Coroutine[Any, Any, None]] = [
        run_every(_RESCUE_SECONDS, rescuer, stop=over, name="rescue"),
        run_every(_CLOSE_SECONDS, closer, stop=over, name="finishing cancellations"),
        run_every(_PRUNE_SECONDS, pruner, stop=over, name="pruning"),
    ]
    if makers:
        scheduler = WhenNeeded(Scheduler(store, makers), hints, lambda house: house.firings > 0)
        duties.append(run_every(SCHEDULE_SECONDS, scheduler, stop=over, name="firing schedules"))
    if backend.storage is not None:
        sweeper = Sweeper(views, lambda: backend.storage)
        duties.append(run_every(_SWEEP_SECONDS, sweeper, stop=over, name="sweeping"))
    return duties
