"""A child of `flowq worker`: `python -m flowq.engine.worker.child`, started by the supervisor, which keeps its lease.

Two kinds, one program: a *shared* child runs many stages at once; an *alone* child runs one at a time, those with
`isolation="process"` and suspects. The child says which stages it knows, waits until its lease has begun, and works.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import sys
import threading
import time
import traceback
from collections.abc import Coroutine
from typing import Any, NoReturn

import msgspec

from flowq.engine.backend import LAST_WORDS_SECONDS, WORKER_PATIENCE, Backend
from flowq.engine.capacity.host_room import host_room, needs_of
from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.code.builtin import BUILTIN_STAGES
from flowq.engine.code.modules import AnyPipeline, load_pipelines, load_stages
from flowq.engine.code.serving import labels_of, limited_queues, own_queues, routes_of
from flowq.engine.duties.every import run_every
from flowq.engine.duties.hints import Hints, WhenNeeded
from flowq.engine.duties.scheduler import SCHEDULE_SECONDS, Scheduler, makers_of
from flowq.engine.exchange.holder import Holder
from flowq.engine.process.child_process import DRAIN, STOP
from flowq.engine.process.parent_link import Note, ParentLink, Ready, Retire
from flowq.engine.process.pulse import Pulse
from flowq.engine.run.stage_threads import STRAYS_MAX
from flowq.engine.worker.child_options import HOUSE, ChildOptions, Heard, Known
from flowq.engine.worker.console import log_to_stderr
from flowq.engine.worker.overdue import described
from flowq.engine.worker.worker import host_slots
from flowq.errors import FlowqError
from flowq.model.outcome import Claim
from flowq.pipeline.stage import AnyStage
from flowq.settings import Settings

# Above the time an async stage may hold the loop without harm: below a second nobody else notices.
_BLOCKED_SECONDS = 1.0
_TICK_SECONDS = 0.25
# A stage that did not stop when its timeout told it to: so long after it the process is ended by the supervisor.
_OVERDUE_GRACE_SECONDS = 5.0
_CLOSE_SECONDS = 5.0

log = logging.getLogger("flowq.engine")


class Child:
    """One child process."""

    def __init__(
        self, link: ParentLink, options: ChildOptions, stages: dict[str, AnyStage], pipelines: list[AnyPipeline]
    ) -> None:
        self._link = link
        self._options = options
        self._stages = {name: stage for name, stage in stages.items() if self._serves(stage)}
        self._makers = makers_of((), ()) if options.is_alone else makers_of(pipelines, stages.values())
        self._pulse = Pulse.attach(options.pulse_fd)
        self._backend: Backend | None = None
        self._holder: Holder | None = None
        self._draining: asyncio.Task[None] | None = None
        self._went = asyncio.Event()

    @property
    def known(self) -> Known:
        """What this child can run."""
        routes, suspects = self._routes()
        names = tuple(name for routed in (routes, suspects) for names in routed.values() for name in names)
        alone = any(stage.options.isolation == "process" for stage in self._stages.values())
        own = own_queues(self._stages.values())
        return Known(
            tuple({**routes, **suspects}), labels_of(self._stages), tuple(dict.fromkeys(names)), alone, tuple(self._makers), own,
            needs_of(self._stages.values()),
        )  # fmt: skip

    async def work(self) -> None:
        """Works until told to drain or until its lease is lost."""
        options = self._options
        settings = Settings(url=options.url, namespace=options.namespace, artifacts=options.artifacts, keep=options.keep)
        backend = await Backend.open(
            settings, name=f"flowq:worker:{options.name}", connections=4, access=options.access, patience=WORKER_PATIENCE
        )
        self._backend = backend
        try:
            await self._hold(backend)
        finally:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes in the same moment as the end.
            with contextlib.suppress(FlowqError, TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await backend.close()

    async def _hold(self, backend: Backend) -> None:
        options, (routes, suspects) = self._options, self._routes()
        slots = host_slots(options.namespace, options.queues)
        room = WorkerRoom(
            routes, options.concurrency, suspects=suspects, slots=slots, limited=limited_queues(options.queues),
            host=host_room(options.namespace, options.has, self._stages.values()),
        )  # fmt: skip
        hints = Hints(backend.store.partitions, lambda tag, house: self._link.say(Note(HOUSE, Heard(tag, house))))
        self._holder = holder = Holder(
            backend.store,
            options.holder,
            room,
            self._stages,
            backend.storage,
            options.concurrency,
            on_group=self._link.announce_group,
            on_deadline=self._beat,
            hints=hints,
        )
        tasks = [asyncio.create_task(self._obey(holder, hints)), asyncio.create_task(self._tick())]
        if self._makers:
            scheduler = WhenNeeded(Scheduler(backend.store, self._makers), hints, lambda house: house.firings > 0)
            firing = run_every(SCHEDULE_SECONDS, scheduler, stop=asyncio.Event(), name="firing schedules")
            tasks.append(asyncio.create_task(firing))
        threading.Thread(target=self._watch_loop, args=(asyncio.get_running_loop(),), daemon=True, name="flowq-watch").start()
        self._link.say(Ready())
        try:
            await self._went.wait()
            await holder.work(backend.wakeups)
        finally:
            for task in tasks:
                task.cancel()
        if holder.lost_because:
            self._link.say(Retire(holder.lost_because))

    def _serves(self, stage: AnyStage) -> bool:
        return self._options.is_alone or stage.options.isolation != "process"

    def _routes(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        every = routes_of(self._stages.values(), self._options.queues)
        if not self._options.is_alone:
            return every, {}
        isolated = [stage for stage in self._stages.values() if stage.options.isolation == "process"]
        return routes_of(isolated, self._options.queues), every

    async def _obey(self, holder: Holder, hints: Hints) -> None:
        async for word in self._link.commands():
            if word.startswith(HOUSE):
                heard = msgspec.json.decode(word.removeprefix(HOUSE), type=Heard)
                hints.hear(heard.tag, heard.house)
                continue
            self._went.set()
            if word in (DRAIN, STOP):
                seconds = self._options.drain_seconds if word == DRAIN else 0.0
                previous, self._draining = self._draining, asyncio.create_task(self._drain(holder, seconds))
                if previous is not None:
                    previous.cancel()

    async def _drain(self, holder: Holder, seconds: float) -> None:
        await holder.drain(seconds)
        if self._backend is not None:
            self._backend.store.connection.patience = LAST_WORDS_SECONDS

    async def _tick(self) -> None:
        while True:
            self._beat()
            await asyncio.sleep(_TICK_SECONDS)

    def _beat(self) -> None:
        # Also before each stage that has a timeout: one that takes the interpreter's lock at once lets no tick tell of it.
        running = self._holder.running if self._holder else []
        deadline, first, will_stall = self._earliest_deadline(self._holder) if self._holder else (math.inf, None, False)
        description = described(first, will_stall=will_stall) if first is not None and deadline < math.inf else b""
        begun, asked = (self._holder.begun, self._holder.limiter.asked) if self._holder else (0, 0)
        latest = deadline + _OVERDUE_GRACE_SECONDS
        self._pulse.beat(running=len(running), earliest_deadline=latest, first=description, begun=begun, asked=asked)
        self._ticked_at = time.monotonic()

    def _earliest_deadline(self, holder: Holder) -> tuple[float, Claim | None, bool]:
        # What goes on after its stage's end, or its cancellation, can't be stopped but with its process. Where one stage runs at
        # a time that harms nobody; a shared child bears some threads.
        deadline, first, will_stall = holder.earliest_deadline
        stopped_at = min(holder.threads.strayed_at, holder.cancelled_at) if self._options.is_alone else math.inf
        if holder.threads.strays >= STRAYS_MAX:
            stopped_at = holder.threads.strayed_at
        return (stopped_at, None, False) if stopped_at < deadline else (deadline, first, will_stall)

    def _watch_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Finds out which stage blocks the loop: only another thread can."""
        self._ticked_at = time.monotonic()
        named = ""
        while True:
            time.sleep(_TICK_SECONDS)
            if time.monotonic() - self._ticked_at < _BLOCKED_SECONDS:
                if named:
                    self._pulse.leave()
                named = ""
                continue
            task = asyncio.current_task(loop)
            name = task.get_name() if task is not None else ""
            if name != named:
                named = name
                self._pulse.enter(name)


def main() -> NoReturn:
    """Runs a child; its exit code is 0 when it was drained."""
    link = ParentLink.open()
    try:
        _live(link)
    finally:
        _leave(link, 1)


def _live(link: ParentLink) -> None:
    options = link.configuration(ChildOptions)
    log_to_stderr(logging.INFO)
    try:
        stages = load_stages(options.modules) | {stage.name: stage for stage in BUILTIN_STAGES}
        child = Child(link, options, stages, load_pipelines(options.modules))
    except FlowqError as error:
        link.say(Note("refused", msgspec.to_builtins((error.problem, error.remedy))))
        return
    link.say(Note("known", msgspec.to_builtins(child.known)))
    _run(_work_and_leave(child, link))


async def _work_and_leave(child: Child, link: ParentLink) -> None:
    exit_code = 1
    try:
        await child.work()
        exit_code = 0
    except FlowqError as error:
        link.say(Retire(str(error)))
    finally:
        # From within the loop, whose own end waits for cancelled tasks and for threads, however long they take.
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others, timeout=_CLOSE_SECONDS)
        _leave(link, exit_code)


def _leave(link: ParentLink, exit_code: int) -> NoReturn:
    # Neither threads of stages that would not stop nor those that a module started may keep the process: what they still
    # do is refused, but for as long as it is there its lease is renewed.
    with contextlib.suppress(OSError, ValueError):
        if sys.exc_info()[0] is not None:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
    link.leave(exit_code)


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    main()
