"""A child of `flowq worker`: `python -m flowq.engine.child`, started by the supervisor, which keeps its lease.

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

import msgspec

from flowq.engine.backend import LAST_WORDS_SECONDS, WORKER_PATIENCE, Backend
from flowq.engine.child_options import GO, ChildOptions, Known
from flowq.engine.child_process import DRAIN, STOP
from flowq.engine.holder import Holder
from flowq.engine.modules import load_stages
from flowq.engine.parent_link import Note, ParentLink, Ready, Retire
from flowq.engine.pulse import Pulse
from flowq.engine.room import WorkerRoom
from flowq.engine.stage_threads import STRAYS_MAX
from flowq.engine.worker import host_slots, limited_queues, routes_of
from flowq.errors import FlowqError
from flowq.pipeline.stage import AnyStage
from flowq.settings import Settings

# Above the time an async stage may hold the loop without harm: below a second nobody else notices.
_BLOCKED_SECONDS = 1.0
_TICK_SECONDS = 0.25
# A stage that did not stop when its timeout told it to: so long after it the process is ended by the supervisor.
_OVERDUE_GRACE_SECONDS = 5.0

log = logging.getLogger("flowq.engine")


class Child:
    """One child process."""

    def __init__(self, link: ParentLink, options: ChildOptions, stages: dict[str, AnyStage]) -> None:
        self._link = link
        self._options = options
        self._stages = {name: stage for name, stage in stages.items() if self._serves(stage)}
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
        return Known(tuple({**routes, **suspects}), tuple(self._stages), tuple(dict.fromkeys(names)), alone)

    async def work(self) -> None:
        """Works until told to drain or until its lease is lost."""
        options = self._options
        settings = Settings(url=options.url, namespace=options.namespace, artifacts=options.artifacts)
        backend = await Backend.open(
            settings, name=f"flowq:worker:{options.name}", connections=4, access=options.access, patience=WORKER_PATIENCE
        )
        self._backend = backend
        commands = asyncio.create_task(self._obey())
        ticking = asyncio.create_task(self._tick())
        threading.Thread(target=self._watch_loop, args=(asyncio.get_running_loop(),), daemon=True, name="flowq-watch").start()
        slots = host_slots(options.namespace, options.queues)
        routes, suspects = self._routes()
        room = WorkerRoom(routes, options.concurrency, suspects=suspects, slots=slots, limited=limited_queues(options.queues))
        self._holder = Holder(
            backend.store,
            options.holder,
            room,
            self._stages,
            backend.storage,
            options.concurrency,
            on_group=self._link.announce_group,
            on_deadline=self._beat,
        )
        self._link.say(Ready())
        try:
            await self._went.wait()
            await self._holder.work(backend.wakeups)
        finally:
            for task in (commands, ticking):
                task.cancel()
            with contextlib.suppress(FlowqError):
                await asyncio.wait_for(backend.close(), 5.0)
        if self._holder.lost_because:
            self._link.say(Retire(self._holder.lost_because))

    def _serves(self, stage: AnyStage) -> bool:
        return self._options.is_alone or stage.options.isolation != "process"

    def _routes(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        every = routes_of(self._stages.values(), self._options.queues)
        if not self._options.is_alone:
            return every, {}
        isolated = [stage for stage in self._stages.values() if stage.options.isolation == "process"]
        return routes_of(isolated, self._options.queues), every

    async def _obey(self) -> None:
        async for word in self._link.commands():
            if word == GO:
                self._went.set()
            elif word in (DRAIN, STOP) and self._holder is not None:
                seconds = self._options.drain_seconds if word == DRAIN else 0.0
                self._went.set()
                previous, self._draining = self._draining, asyncio.create_task(self._drain(self._holder, seconds))
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
        deadline = self._earliest_deadline(self._holder) if self._holder else math.inf
        self._pulse.beat(running=len(running), earliest_deadline=deadline + _OVERDUE_GRACE_SECONDS)
        self._ticked_at = time.monotonic()

    def _earliest_deadline(self, holder: Holder) -> float:
        # A thread that goes on after its stage's end can't be stopped but with its process. Where one stage runs at a time that
        # harms nobody; a shared child bears some.
        is_full = self._options.is_alone or holder.strays >= STRAYS_MAX
        return min(holder.earliest_deadline, holder.strayed_at) if is_full else holder.earliest_deadline

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


def main() -> int:
    """Runs a child; its exit code is 0 when it was drained."""
    link = ParentLink.open()
    options = link.configuration(ChildOptions)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        child = Child(link, options, load_stages(options.modules))
    except FlowqError as error:
        link.say(Note("refused", msgspec.to_builtins((error.code, error.problem, error.remedy))))
        return 1
    link.say(Note("known", msgspec.to_builtins(child.known)))
    try:
        _run(child.work())
    except FlowqError as error:
        link.say(Retire(str(error)))
        return 1
    sys.stdout.flush()
    sys.stderr.flush()
    # Threads of stages that would not stop must not keep the process: what they still do is refused.
    link.leave(0)
    return 0


def _run(work: object) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)  # type: ignore[arg-type]
    else:
        uvloop.run(work)  # type: ignore[arg-type]


if __name__ == "__main__":
    sys.exit(main())
