"""`flowq worker`: a supervisor with children. The children run stages; the supervisor keeps their leases, sees their death
at once and has their stages rescued, kills what hangs, and drains everything on SIGTERM. It never imports user code.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import msgspec

from flowq.engine.backend import LAST_WORDS_SECONDS, WORKER_PATIENCE, Backend
from flowq.engine.code.serving import announce
from flowq.engine.duties.every import run_every
from flowq.engine.duties.extending import PermitKeeper
from flowq.engine.duties.hints import Hints
from flowq.engine.duties.lease import LEASE_MS, RENEWALS_PER_LEASE, SAFE_SHARE, now_awake
from flowq.engine.worker.backlog_page import BacklogPage
from flowq.engine.worker.child_options import ChildOptions, Heard
from flowq.engine.worker.health import Health
from flowq.engine.worker.idleness import AtRest, Burst, Idleness
from flowq.engine.worker.nursery import Nurse
from flowq.engine.worker.worker import background_duties, default_name
from flowq.errors import FlowqError
from flowq.settings import Settings
from flowq.store.ending import end
from flowq.store.script_loader import script
from flowq.store.views import Views

log = logging.getLogger("flowq.engine")

_WATCH_SECONDS = 1.0
# Beyond their own drain timeout, children get this long to report and end.
_END_SECONDS = 10.0


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How `flowq worker` runs.

    Attributes:
        modules: what to import for stages: dotted names or `.py` paths.
        concurrency: stages at once in a shared child.
        queues: queue → slots on this host (None: no limit of its own); empty: all queues of the stages.
        processes: how many shared children.
        alone: how many children for stages with `isolation="process"`; at least one runs always, for suspects.
        burst: stop when there is nothing left to do.
        idle_timeout_ms: stop after so long without work; None: never.
        drain_timeout_ms: how long running stages may go on after SIGTERM before they are handed back.
        health_port: serve /livez, /readyz and /backlog there; None: don't.
        health_host: the address on which that is served.
        name: shown in `flowq inspect`; empty: host and process.
        lease_ms: how long after the supervisor's last sign of life its stages are given to others.
        has: what this host has of what stages need.
    """

    modules: tuple[str, ...]
    concurrency: int = 50
    queues: dict[str, int | None] = {}
    processes: int = 1
    alone: int = min(4, os.cpu_count() or 1)
    burst: bool = False
    idle_timeout_ms: int | None = None
    drain_timeout_ms: int = 30_000
    health_port: int | None = None
    health_host: str = "127.0.0.1"
    name: str = ""
    lease_ms: int = LEASE_MS
    has: dict[str, int] = {}


class Supervisor:
    """Runs a worker process tree until SIGTERM, SIGINT, or until there is nothing left to do.

    Args:
        settings: the server, the namespace and the storage.
        options: how to run.
    """

    def __init__(self, settings: Settings, options: WorkerOptions) -> None:
        self._settings = settings
        self._options = options
        self._name = options.name or default_name()
        self._nurses: list[Nurse] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = asyncio.Event()
        self._over = asyncio.Event()
        self._drain_seconds = options.drain_timeout_ms / 1000
        self._ending: asyncio.Timeout | None = None
        self._error: FlowqError | None = None
        self._renewed_at = now_awake()

    async def run(self) -> None:
        """Works until told to stop.

        Raises:
            ModuleNotLoaded: the modules can't be loaded.
            ServerError, EmbeddedError, StorageError: the server or the storage can't be used.
        """
        backend = await Backend.open(self._settings, name=f"flowq:worker:{self._name}", connections=2, patience=WORKER_PATIENCE)
        self._backend, self._hints = backend, Hints(backend.store.partitions)
        backend.on_moved = self._move
        async with contextlib.AsyncExitStack() as house:
            house.push_async_callback(backend.close)
            await backend.store.refuse_without_rights()
            loop = asyncio.get_running_loop()
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, self.stop)
                house.callback(loop.remove_signal_handler, number)
            if self._options.health_port is not None:
                page = BacklogPage(backend.store).answer
                health = await Health.serve(self._options.health_port, self._is_ready, page, self._options.health_host)
                house.callback(health.close)
            duties = [asyncio.create_task(duty) for duty in self._duties(backend)]
            house.push_async_callback(self._end_everything, duties)
            # Read now: where descriptors have run out, no file can be opened, and what a dead child ran must go on.
            script("rescue")
            if backend.notice:
                log.warning("%s", backend.notice)
            if backend.storage is not None:
                await asyncio.to_thread(backend.storage.check)
            if not self._stopping.is_set():
                await self._raise_children()
            await self._stopping.wait()
            await self._end_children()
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Drains; called again, hands everything back at once."""
        # From here on it waits for a server that is gone only as long as last words are worth.
        self._backend.store.connection.patience = LAST_WORDS_SECONDS
        is_told_again = self._stopping.is_set()
        for nurse in self._nurses:
            nurse.drain(at_once=is_told_again)
        if is_told_again:
            self._drain_seconds = 0.0
            if self._ending is not None and not self._ending.expired():
                self._ending.reschedule(asyncio.get_running_loop().time() + _END_SECONDS)
        self._stopping.set()

    # ── children ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _raise_children(self) -> None:
        for number in range(self._options.processes):
            self._hire(f"{self._name}.{number}" if self._options.processes > 1 else self._name, is_alone=False)
        # One that runs single stages is always there, warm, for the suspects of the others.
        first = self._hire(f"{self._name}.a0", is_alone=True)
        known = await first.known()
        if known is not None:
            announce(self._name, known.stages, known.queues, known.own_queues)
        if known is not None and known.has_isolated:
            for number in range(1, self._options.alone):
                self._hire(f"{self._name}.a{number}", is_alone=True)

    def _hire(self, name: str, *, is_alone: bool) -> Nurse:
        options, settings = self._options, self._backend.settings
        template = ChildOptions(
            modules=options.modules,
            url=settings.url,
            namespace=settings.namespace,
            artifacts=settings.artifacts,
            access=self._backend.access,
            holder="",
            name=name,
            is_alone=is_alone,
            concurrency=1 if is_alone else options.concurrency,
            queues=options.queues,
            drain_seconds=self._drain_seconds,
            pulse_fd=-1,
            keep=settings.keep,
            has=options.has,
        )
        nurse = Nurse(self._backend.store, template, options.lease_ms, self._give_up, self._pass_on)
        self._nurses.append(nurse)
        if self._stopping.is_set():  # told to stop while the children were being raised
            nurse.drain()
        task = asyncio.create_task(nurse.care())
        self._tasks.add(task)
        task.add_done_callback(self._one_nurse_less)
        return nurse

    def _pass_on(self, nurse: Nurse, heard: Heard) -> None:
        """What one child has heard nobody else asks for: not the supervisor, nor the other children."""
        self._hints.hear(heard.tag, heard.house)
        for other in self._nurses:
            if other is not nurse:
                other.tell(heard)

    def _one_nurse_less(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._stopping.is_set():
            self._give_up(error if isinstance(error, FlowqError) else FlowqError(f"the supervisor failed: {error!r}"))

    def _give_up(self, error: FlowqError) -> None:
        self._error = self._error or error
        self.stop()

    async def _end_children(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_seconds + _END_SECONDS) as self._ending:
                if self._tasks:
                    await asyncio.wait(list(self._tasks))
        self._ending = None
        for nurse in self._nurses:
            nurse.kill()
        if self._tasks:  # that they rescue what a child left
            await asyncio.wait(list(self._tasks), timeout=_END_SECONDS)

    async def _end_everything(self, duties: list[asyncio.Task[None]]) -> None:
        self._over.set()
        for nurse in self._nurses:
            nurse.kill()
        await asyncio.gather(*(end(task) for task in (*duties, *self._tasks)))
        await self._permits.close()

    # ── duties ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _duties(self, backend: Backend) -> list[Coroutine[Any, Any, None]]:
        # Where its children hear nothing any more, be they stuck, it asks by itself.
        duties = background_duties(backend, self._over, self._hints)
        renewal_seconds = self._options.lease_ms / 1000 / RENEWALS_PER_LEASE
        self._permits = PermitKeeper(backend.store, self._options.lease_ms, renewal_seconds)
        duties.append(run_every(renewal_seconds, _Duty(self._renew), stop=self._over, name="renewing leases"))
        duties.append(run_every(_WATCH_SECONDS, _Duty(self._watch), stop=self._over, name="watching children"))
        if self._options.burst:
            burst = Burst(self._is_done, self.stop)
            duties.append(run_every(_WATCH_SECONDS / 2, burst, stop=self._over, name="watching for work"))
        if (timeout_ms := self._options.idle_timeout_ms) is not None:
            idleness = Idleness(backend.store, timeout_ms, self._at_rest, self._stop_idle)
            duties.append(run_every(idleness.look_seconds, idleness, stop=self._over, name="watching for work"))
        return duties

    async def _renew(self) -> None:
        """Renews all children's leases; those it could not renew in time are ended before others may have stages and permits."""
        sent_at = now_awake()
        by_holder = {nurse.holder: nurse for nurse in self._nurses if nurse.is_working}
        safe_seconds = SAFE_SHARE * self._options.lease_ms / 1000
        if sent_at - self._renewed_at >= self._options.lease_ms / 1000:
            for nurse in self._nurses:
                nurse.kill("its lease ran out while all stood still", is_crash=False)
            self._renewed_at = sent_at
            return
        try:
            left = max(0.5, self._renewed_at + safe_seconds - sent_at)
            # By the clock too: a server that is stopped keeps a call waiting for longer than a short lease lasts.
            async with asyncio.timeout(left):
                for tag in self._backend.store.partitions if by_holder else ():
                    for expired in await self._backend.store.renew(tag, self._options.lease_ms, list(by_holder), patience=left):
                        if (nurse := by_holder[expired]).holder == expired:
                            nurse.kill("its lease was lost", is_crash=False)
            self._renewed_at = sent_at
            self._permits.extend({holder: nurse.asked for holder, nurse in by_holder.items()})
        except (FlowqError, TimeoutError):
            if now_awake() - self._renewed_at >= safe_seconds:
                for nurse in self._nurses:
                    nurse.kill("its lease could not be renewed", is_crash=False)
                self._renewed_at = now_awake()
            raise

    async def _watch(self) -> None:
        for nurse in self._nurses:
            nurse.watch()

    def _move(self) -> None:
        for nurse in self._nurses:
            nurse.move(self._backend.settings.artifacts, self._backend.access)

    def _is_ready(self) -> bool:
        is_renewed = now_awake() - self._renewed_at < self._options.lease_ms / 1000
        return is_renewed and not self._stopping.is_set() and all(nurse.is_working for nurse in self._nurses)

    async def _is_done(self) -> bool:
        if (resting := self._at_rest()) is None:
            return False
        views = Views(self._backend.store)
        return not await views.waiting(resting.routes) and not await views.scheduled()

    def _at_rest(self) -> AtRest | None:
        # None yet: it has only begun, and does not know what waits for it.
        if not self._nurses or any(nurse.running or not nurse.is_working for nurse in self._nurses):
            return None
        return AtRest.of((route for nurse in self._nurses for route in nurse.routes), (nurse.begun for nurse in self._nurses))

    def _stop_idle(self) -> None:
        if not self._stopping.is_set():
            log.info("worker %s stops: it had nothing to do for its idle timeout", self._name)
            self.stop()


class _Duty:
    def __init__(self, once: Callable[[], Awaitable[None]]) -> None:
        self._once = once

    async def run_once(self) -> None:
        await self._once()
