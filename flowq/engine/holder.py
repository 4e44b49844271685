"""A holder: one incarnation of a process that claims stages. It has an id, a lease, and the stages that run under it.

When its lease is lost it is over, with all its stages; the worker begins again under a new id.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping

import msgspec

from flowq.artifacts.storage import Storage
from flowq.engine.context import StageContext
from flowq.engine.conversation import Conversation
from flowq.engine.every import run_every
from flowq.engine.executor import Executor, GivenBack
from flowq.engine.gates import REFRESH_SECONDS, Gates
from flowq.engine.limiter import Limiter
from flowq.engine.room import WorkerRoom
from flowq.errors import FlowqError
from flowq.model.outcome import Claim, Outcome, Progress
from flowq.pipeline.stage import AnyStage
from flowq.store.store import Store
from flowq.store.wakeups import Wakeups

log = logging.getLogger("flowq.engine")


def new_holder_id(name: str) -> str:
    """An id that no other incarnation ever has."""
    return f"{name}.{secrets.token_hex(4)}"


_RunKey = tuple[str, int, int]


class _Run(msgspec.Struct):
    task: asyncio.Task[None]
    claim: Claim
    context: StageContext | None = None
    deadline: float = math.inf


class Holder:
    """Claims and runs stages under one id.

    Args:
        store: the store; registration and renewal of the lease are the caller's.
        holder: the id.
        room: what it may run at once.
        stages: stage name → stage.
        storage: where artifacts are kept.
        on_group: told the process groups that stages start and end.
        on_deadline: told that `earliest_deadline` may have changed, before the stage's function is called.
    """

    def __init__(
        self,
        store: Store,
        holder: str,
        room: WorkerRoom,
        stages: Mapping[str, AnyStage],
        storage: Storage | None,
        threads: int,
        on_group: Callable[[int, bool], None] | None = None,
        on_deadline: Callable[[], None] | None = None,
    ) -> None:
        self.id = holder
        self.lost_because = ""
        self._store = store
        self._on_deadline = on_deadline
        self._room = room
        self._loop = asyncio.get_running_loop()
        limiter = Limiter(store, holder)
        self._executor = Executor(store, stages, storage, threads, self._progress_from_any_thread, on_group, limiter)
        self._gates = Gates(store, limiter, holder)
        # By token, because a stage may be claimed again here while its earlier run still winds down.
        self._running: dict[_RunKey, _Run] = {}
        self._closing: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._ended.set()
        self._over = asyncio.Event()
        self._conversations = {
            tag: Conversation(
                store, tag, holder, room, self, lambda: self.lose("the server gave its stages to others"), self._gates
            )
            for tag in store.partitions
        }
        for conversation in self._conversations.values():
            room.on_open(conversation.stir)

    @property
    def running(self) -> list[Claim]:
        """What runs now."""
        return [run.claim for run in self._running.values()]

    @property
    def earliest_deadline(self) -> tuple[float, Claim | None]:
        """When the first running stage must have ended, by `time.monotonic()`, and which it is; inf: none has to."""
        first = min(self._running.values(), key=lambda run: run.deadline, default=None)
        return (first.deadline, first.claim) if first is not None else (math.inf, None)

    @property
    def strays(self) -> int:
        """How many threads run functions whose stage is over: they were told to stop and did not."""
        return self._executor.threads.strays

    @property
    def strayed_at(self) -> float:
        """Since when the oldest of them does, by `time.monotonic()`; inf: there is none."""
        return self._executor.threads.strayed_at

    async def work(self, wakeups: Wakeups) -> None:
        """Claims and runs until `drain` has finished or the lease is lost."""
        wakeups.on_wake(self.id, self._wake)
        await self._gates.refresh()
        looking = asyncio.create_task(run_every(REFRESH_SECONDS, self._gates, stop=asyncio.Event(), name="looking for limits"))
        talks = asyncio.gather(*(conversation.hold() for conversation in self._conversations.values()))
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait([talks, over], return_when=asyncio.FIRST_COMPLETED)
            if talks.done():
                talks.result()
        finally:
            for task in (talks, over, looking):
                task.cancel()
            await asyncio.gather(talks, over, looking, return_exceptions=True)
            self._abandon()
            with contextlib.suppress(FlowqError):
                await self._gates.give_all_back()
            self._executor.close()

    async def drain(self, seconds: float) -> None:
        """Claims no more, lets what runs end for `seconds`, gives the rest back, and ends."""
        for conversation in self._conversations.values():
            conversation.stop_claiming()
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            for run in list(self._running.values()):
                if run.context is not None:
                    run.context.give_back()
                run.task.cancel(GivenBack)
            await self._until_ended(5.0)
        for conversation in self._conversations.values():
            conversation.end()

    def lose(self, why: str) -> None:
        """The lease is lost: nothing that runs here counts any more."""
        self.lost_because = self.lost_because or why
        self._over.set()

    # ── Listener: called by the conversations ────────────────────────────────────────────────────────────────────

    def start(self, claim: Claim) -> None:
        """Runs a claimed stage."""
        key = (claim.flow_id, claim.index, claim.token.fence)
        self._ended.clear()
        task = asyncio.create_task(self._run(key, claim))
        self._running[key] = _Run(task, claim)
        # A task that is cancelled before its first step never runs, not even its `finally`.
        task.add_done_callback(lambda _: self._leave(key))

    def cancel(self, flow_id: str, index: int, fence: int) -> None:
        """Ends a running stage whose flow was cancelled."""
        run = self._running.get((flow_id, index, fence))
        if run is not None:
            if run.context is not None:
                run.context.cancel()
            run.task.cancel()

    def close(self, flow_id: str, stages: int) -> None:
        """Ends what else runs of a flow that has failed at once. Should this process die first, a duty of others does it."""
        task = asyncio.create_task(self._close(flow_id, stages))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def refused(self, outcome: Outcome, word: str, holder: str) -> None:
        """An outcome was not accepted."""
        log.warning(
            "what stage %d of flow %s did was refused: %s%s",
            outcome.index, outcome.flow_id, word, f", it is held by {holder}" if holder else "",
        )  # fmt: skip

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, key: _RunKey, claim: Claim) -> None:
        run = self._running[key]

        def running(context: StageContext) -> None:
            run.context = context
            run.task.set_name(f"{context.stage} of flow {context.flow_id}")
            if context.deadline is not None:
                run.deadline = time.monotonic() + (context.deadline - datetime.datetime.now(datetime.UTC)).total_seconds()
                if self._on_deadline is not None:
                    self._on_deadline()

        try:
            outcome = await self._executor.run(claim, running)
        finally:
            self._leave(key)
        conversation = self._conversations[self._store.keys.tag_of(claim.flow_id)]
        if outcome is None:
            conversation.wake()
        else:
            conversation.report(outcome)

    async def _close(self, flow_id: str, stages: int) -> None:
        with contextlib.suppress(FlowqError):
            await self._store.cancel(flow_id, "", stages)

    def _leave(self, key: _RunKey) -> None:
        run = self._running.pop(key, None)
        if run is not None:
            if self._gates.are_there:
                self._gates.ended(run.claim)
            self._room.ended(run.claim)
        if not self._running:
            self._ended.set()

    def _progress_from_any_thread(self, progress: Progress) -> None:
        conversation = self._conversations[self._store.keys.tag_of(progress.flow_id)]
        self._loop.call_soon_threadsafe(conversation.report_progress, progress)

    def _wake(self) -> None:
        for conversation in self._conversations.values():
            conversation.wake()

    async def _until_ended(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._ended.wait()
        except TimeoutError:
            log.warning("%d stages did not stop; what they still do is refused", len(self._running))

    def _abandon(self) -> None:
        for run in list(self._running.values()):
            if run.context is not None:
                run.context.cancel()
            run.task.cancel()
