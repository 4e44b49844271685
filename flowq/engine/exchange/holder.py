"""A holder: one incarnation of a process that claims stages. It has an id, a lease, and the stages that run under it.

When its lease is lost it is over, with all its stages; the worker begins again under a new id.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from flowq.artifacts.storage import Storage
from flowq.engine.backend import LAST_WORDS_SECONDS
from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.capacity.slots import LOOK_SECONDS as LOOK_FOR_SLOTS_SECONDS
from flowq.engine.duties.closing import finish_closing
from flowq.engine.duties.every import run_every
from flowq.engine.duties.hints import Hints
from flowq.engine.exchange.conversation import BATCH, LINES, Conversation
from flowq.engine.exchange.gates import REFRESH_SECONDS, Gates
from flowq.engine.exchange.notes import last_note
from flowq.engine.run.context import StageContext, log_of_this_run
from flowq.engine.run.executor import Executor
from flowq.engine.run.limiter import Limiter
from flowq.engine.run.reuse import LOOK_SECONDS
from flowq.engine.run.stage_clock import StageClock
from flowq.engine.run.stage_log import capture
from flowq.engine.run.stage_run import RunKey, StageRun
from flowq.errors import FlowqError
from flowq.model.outcome import Claim, Outcome, Progress, Release
from flowq.pipeline.stage import AnyStage
from flowq.store.store import Store
from flowq.store.wakeups import Wakeups

log = logging.getLogger("flowq.engine")


def new_holder_id(name: str) -> str:
    """An id that no other incarnation ever has."""
    return f"{name}.{secrets.token_hex(4)}"


class Holder:
    """Claims and runs stages under one id.

    Args:
        store: the store; registration and renewal of the lease are the caller's.
        holder: the id.
        room: what it may run at once.
        stages: stage name → stage.
        storage: where artifacts are kept.
        threads: how many stages run at once.
        on_group: told the process groups that stages start and end.
        on_deadline: told that `earliest_deadline` may have changed, before the stage's function is called, or `limiter.asked`.
        hints: told what there is for duties.

    Attributes:
        threads: where functions run; those whose stage is over, and were told to stop and did not, are its strays.
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
        hints: Hints | None = None,
    ) -> None:
        self.id = holder
        self.lost_because = ""
        self._store, self._room, self._on_deadline = store, room, on_deadline
        self._loop = asyncio.get_running_loop()
        hints = hints or Hints(store.partitions)
        self.limiter = Limiter(store, holder, on_deadline)
        self._gates = Gates(store, self.limiter, holder, self._take_turn, hints, lambda: self.running)
        self._executor = Executor(
            store, stages, storage, threads, self._progress_from_any_thread, on_group, self._log_from_any_thread, self.limiter
        )
        self.threads = self._executor.threads
        capture(log_of_this_run)
        # By token, because a stage may be claimed again here while its earlier run still winds down.
        self._running: dict[RunKey, StageRun] = {}
        self.begun = 0
        self._closing: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._ended.set()
        self._over = asyncio.Event()
        expired, batch = partial(self.lose, "the server gave its stages to others"), min(BATCH, -(-threads // LINES))
        self._conversations = {
            tag: Conversation(store, tag, holder, room, self, expired, self._gates, batch, hints) for tag in store.partitions
        }
        room.on_turn(self._take_turn)

    @property
    def running(self) -> list[Claim]:
        """What runs now."""
        return [run.claim for run in self._running.values()]

    @property
    def earliest_deadline(self) -> tuple[float, Claim | None, bool]:
        """When the first running stage must have ended, by `time.monotonic()`, which, and whether it stalls; inf: none has to."""
        first = min(self._running.values(), key=lambda run: run.ends_at, default=None)
        if first is None or first.clock is None:
            return math.inf, None, False
        return first.ends_at, first.claim, first.clock.will_stall

    @property
    def cancelled_at(self) -> float:
        """Since when the oldest of the cancelled stages that still run is so, by `time.monotonic()`; inf: none is."""
        return min((run.cancelled_at for run in self._running.values()), default=math.inf)

    async def work(self, wakeups: Wakeups) -> None:
        """Claims and runs until `drain` has finished or the lease is lost."""
        self._executor.bind()
        wakeups.on_wake(self.id, self._wake)
        self._gates.listen(wakeups)
        await self._gates.refresh()
        duties = [
            run_every(REFRESH_SECONDS, self._gates, stop=self._over, name="looking for limits"),
            run_every(LOOK_SECONDS, self._executor.reuser, stop=self._over, name="looking for what is computed"),
        ]
        if self._room.is_shared:
            duties.append(run_every(LOOK_FOR_SLOTS_SECONDS, self._room, stop=self._over, name="looking for slots"))
        talks = asyncio.gather(*(conversation.hold() for conversation in self._conversations.values()))
        tasks: list[asyncio.Future[Any]] = [talks, *map(asyncio.create_task, (self._over.wait(), *duties))]
        try:
            await asyncio.wait(tasks[:2], return_when=asyncio.FIRST_COMPLETED)
            if talks.done():
                talks.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._abandon()
            await self._executor.reuser.settle()
            with contextlib.suppress(FlowqError):
                await self._gates.close()
            self._executor.close()

    async def drain(self, seconds: float) -> None:
        """Claims no more, lets what runs end for `seconds`, gives the rest back, and ends when the last outcome is reported."""
        for conversation in self._conversations.values():
            conversation.stop_claiming()
        self._room.is_closed = True
        until = self._loop.time() + seconds
        # A server that is gone would keep the last question open for as long as it is gone.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, LAST_WORDS_SECONDS)):
                for conversation in self._conversations.values():
                    await conversation.until_claims_are_in()
        for conversation in self._conversations.values():
            conversation.give_claims_back()
        try:
            async with asyncio.timeout_at(until):
                await self._ended.wait()
        except TimeoutError:
            for run in list(self._running.values()):
                run.is_given_back = True
                if run.context is not None:
                    run.context.give_back()
                run.stop()
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
        self.begun += 1
        self._ended.clear()
        key = claim.run
        # Not by the loop's task factory: one may run the task's first step here, before the run is known.
        self._running[key] = StageRun(asyncio.Task(self._run(key, claim), loop=self._loop), claim)

    def cancel(self, key: RunKey) -> None:
        """Ends a run, if it is here: its stage was cancelled."""
        run = self._running.get(key)
        if run is not None:
            if run.context is not None:
                run.context.cancel()
            run.cancelled_at = min(run.cancelled_at, time.monotonic())
            run.stop()

    def close(self, member: str) -> None:
        """Ends what else runs of a flow or a map that has ended. Should this process die first, a duty of others does it."""
        task = asyncio.create_task(self._close(member))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def refused(self, outcome: Outcome, word: str, holder: str) -> None:
        """An outcome was not accepted."""
        log.warning(
            "what stage %d of flow %s did was refused: %s%s",
            outcome.index, outcome.flow_id, word, f", it is held by {holder}" if holder else "",
        )  # fmt: skip

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _run(self, key: RunKey, claim: Claim) -> None:
        run = self._running[key]

        def running(context: StageContext, clock: StageClock) -> None:
            run.context, run.clock = context, clock
            if run.is_given_back:
                context.give_back()
            run.task.set_name(f"{context.stage} of flow {context.flow_id}")
            if clock.is_limited and self._on_deadline is not None:
                self._on_deadline()

        outcome, note = None, None
        try:
            run.begin()
            outcome = await self._executor.run(claim, run.task, running)
            run.clock = None
            # Before its room is free: else the next suspect begins beside one that has not reported, and neither is found guilty.
            if run.context is not None and run.context.has_notes:
                note = await last_note(self._store, claim, run.context)
        except asyncio.CancelledError:
            if outcome is None and not run.is_given_back:
                raise
            outcome = outcome or Release(*claim.run)
        finally:
            self._leave(key)
        conversation = self._conversations[self._store.keys.tag_of(claim.flow_id)]
        then = self._executor.reuser.after(claim, outcome)
        if outcome is None:
            conversation.wake()
            if then is not None:
                then()
        else:
            conversation.report(outcome, note, then)

    async def _close(self, member: str) -> None:
        with contextlib.suppress(FlowqError):
            await finish_closing(self._store, member)

    def _leave(self, key: RunKey) -> None:
        run = self._running.pop(key, None)
        if run is not None:
            is_stray = self.threads.has_left(run.task)
            self._room.ended(run.claim, is_stray=is_stray)
            if is_stray:
                leave = partial(self._room.leave_host, run.claim)
                self.threads.when_over(run.task, partial(self._over_in_its_thread, run.claim), in_thread=leave)
            elif self._gates.are_there:
                self._gates.ended(run.claim)
            if not self._running:
                self._ended.set()

    def _over_in_its_thread(self, claim: Claim) -> None:
        self._gates.ended(claim)
        self._room.host_was_left(claim)

    def _progress_from_any_thread(self, progress: Progress) -> None:
        conversation = self._conversations[self._store.keys.tag_of(progress.flow_id)]
        with contextlib.suppress(RuntimeError):  # the loop has ended before a thread that did not stop
            self._loop.call_soon_threadsafe(conversation.report_progress, progress)

    def _log_from_any_thread(self, claim: Claim) -> None:
        run = self._running.get(claim.run)
        if run is not None and run.context is not None:
            conversation = self._conversations[self._store.keys.tag_of(claim.flow_id)]
            with contextlib.suppress(RuntimeError):  # the loop has ended before a thread that did not stop
                self._loop.call_soon_threadsafe(conversation.hear_log, claim, run.context)

    def _take_turn(self, tag: str) -> None:
        self._conversations[tag].take_turn()

    def _wake(self, tag: str) -> None:
        self._conversations[tag].wake()

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
            run.stop()
