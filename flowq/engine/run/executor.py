"""Runs one claimed stage: from the claim to its outcome, as a row of small steps.

Holds no connection and decides nothing about retries: it prepares the arguments, calls the function, packs the result.
"""

from __future__ import annotations

import asyncio
import contextvars
import datetime
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from flowq.artifacts.spill import spill, unspill
from flowq.artifacts.storage import Storage
from flowq.engine.flow.as_typed import read_marked
from flowq.engine.flow.gathering import gathered, told
from flowq.engine.run.context import StageContext, enter, forget
from flowq.engine.run.expansion import Shared, SharedArguments, expanded, loaded, shared_part
from flowq.engine.run.limiter import HeldPermit, Limiter, give_all_back, give_back_soon
from flowq.engine.run.policy import MAX_CRASHES, NotWorthRetrying, Poisoned, after_run_error
from flowq.engine.run.reuse import Reuser
from flowq.engine.run.stage_clock import StageClock
from flowq.engine.run.stage_threads import StageThreads
from flowq.engine.run.waits import Waits
from flowq.errors import DefinitionError, StageStalled, StageTimedOut, StorageNotConfigured, ValueTooLarge
from flowq.model.artifact import bound_reader
from flowq.model.failure import unpacked
from flowq.model.items import LIST, is_item, stage_of
from flowq.model.outcome import Claim, Complete, CompleteItem, Outcome, Progress, Release, Skip, opaque
from flowq.model.plan import CONDITION, TYPED, StagePlan
from flowq.model.values import INLINE_BYTES_MAX
from flowq.pipeline.limit import bound_limiter, use_for
from flowq.pipeline.stage import AnyStage
from flowq.store.maps import literals_of
from flowq.store.store import Store
from flowq.store.stored_plan import StoredPlan

log = logging.getLogger("flowq.engine")

_pack = msgspec.msgpack.Encoder().encode
_NOTHING = opaque(b"")


class Executor:
    """Runs stages in this process: coroutines in its loop, functions in its threads.

    Args:
        store: for plans and for results that were too large to come with a claim.
        stages: stage name → stage.
        storage: where artifacts are kept; None: none are configured.
        threads: how many functions may run at once.
        on_progress: told each progress report of a stage, from any thread.
        on_group: told each process group that a stage starts and ends.
        on_log: told that a stage has logged something, from any thread.
        limiter: hands out permits of limits.
    """

    def __init__(
        self,
        store: Store,
        stages: Mapping[str, AnyStage],
        storage: Storage | None,
        threads: int,
        on_progress: Callable[[Progress], None],
        on_group: Callable[[int, bool], None] | None = None,
        on_log: Callable[[Claim], None] | None = None,
        limiter: Limiter | None = None,
    ) -> None:
        self._store = store
        self._stages = stages
        self._storage = storage
        self.threads = StageThreads(threads)
        self.reuser = Reuser(store, storage)
        self._on_progress = on_progress
        self._on_group = on_group
        self._on_log = on_log
        self._shared = SharedArguments(self._read_shared)
        self._limiter = limiter

    def bind(self) -> None:
        """From now on stages that begin here, or in tasks that are made from here, find their artifacts and limits."""
        bound_reader.set(self._storage)
        bound_limiter.set(self._limiter)

    async def run(
        self, claim: Claim, task: asyncio.Task[None], running: Callable[[StageContext, StageClock], None]
    ) -> Outcome | None:
        """Runs a stage and returns what became of it; None: it was cancelled, and nobody waits for an answer.

        Args:
            claim: the stage.
            task: that runs this.
            running: told the stage's context and clock before its function is called.
        """
        plan: StoredPlan | None = None
        stage: StagePlan | None = None
        stage_context: StageContext | None = None
        permits: Sequence[HeldPermit] = ()
        # The one place that catches everything: whatever a stage raises is its outcome, not ours.
        try:
            plan = await self._store.plan(claim.flow_id, claim.plan)
            stage = await loaded(plan, claim.index)
            is_asked = (stage.limits or stage.cache_ms) and claim.crashes < MAX_CRASHES
            inputs = await self._inputs(claim, stage, plan) if is_asked else None
            if inputs is not None and (spared := await self._spared(claim, stage, plan, inputs)):
                return spared
            permits = await self._permits_for(claim, stage, inputs) if inputs is not None else ()
            clock = StageClock(stage)
            stage_context = self._context_for(claim, stage, plan, clock, task)
            running(stage_context, clock)
            return await self._ran(claim, stage, plan, inputs, clock, stage_context)
        except asyncio.CancelledError as error:
            if stage_context is not None and stage_context.cancelled:
                return _stopped(stage_context, claim)
            if task.cancelling():
                raise
            # The stage raised it by itself, say because it awaited a task that was cancelled: a failure like any other.
            return after_run_error(error, stage, claim, plan)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt | SystemExit) and stage_context is None:
                raise
            if stage_context is not None and (stopped := _stopped(stage_context, claim)):  # what it made of being stopped
                return stopped
            log.debug("stage failed", exc_info=error, extra={"flow_id": claim.flow_id})
            return after_run_error(error, stage, claim, plan)
        finally:
            if stage_context is not None:
                forget(stage_context)  # not before its error is gone, which may hold what cleans up after it
            if permits and self.threads.has_left(task):
                self.threads.when_over(task, partial(give_back_soon, permits))
            else:
                await give_all_back(permits)

    async def _spared(self, claim: Claim, stage: StagePlan, plan: StoredPlan, inputs: dict[str, Any]) -> Outcome | None:
        """What becomes of a stage without running it, because it has a cache; before it waits for its limits."""
        if not stage.cache_ms or stage.mapping is not None or not inputs.get(CONDITION, True):
            return None
        if TYPED in inputs:
            read_marked(inputs, self._stages[stage.stage].signature)
        arguments = {name: value for name, value in inputs.items() if name != CONDITION}
        return await self.reuser.outcome(claim, stage, self._stages[stage.stage], arguments, plan)

    async def _ran(
        self, claim: Claim, stage: StagePlan, plan: StoredPlan, inputs: dict[str, Any] | None,
        clock: StageClock, stage_context: StageContext,
    ) -> Outcome:  # fmt: skip
        if claim.crashes >= MAX_CRASHES:
            raise Poisoned(claim.crashes, await self._store.last_crash(claim.flow_id, claim.index))
        function = self._stages[stage.stage]
        if inputs is None:
            inputs = await self._inputs(claim, stage, plan)
        if not inputs.pop(CONDITION, True):
            nothing = _pack(None) if stage.mapping is None else LIST
            return Skip(*claim.run, opaque(nothing), _NOTHING, plan.releases(claim.index))
        if stage.mapping is not None:
            return await expanded(self._store, claim, stage, plan, stage.mapping, inputs[stage.mapping.argument])
        if TYPED in inputs:
            read_marked(inputs, function.signature)
        arguments = function.signature.arguments(inputs)
        try:
            result = await self._call(function, clock, stage_context, arguments)
        except Exception as error:
            if function.retry_types is not None and function.retry_types.is_final(error):
                raise NotWorthRetrying(error) from error
            raise
        # What it returned because it was suspended does not count.
        return stage_context.suspension or await self._completed(claim, function, stage_context, result, plan)

    def close(self) -> None:
        """Lets go of the threads; functions that still run in them go on, refused by their tokens."""
        self.threads.close()

    async def _permits_for(self, claim: Claim, stage: StagePlan, inputs: dict[str, Any]) -> list[HeldPermit]:
        """Waits for the stage's limits, before its context exists: its timeout does not run yet."""
        if self._limiter is None or not inputs.get(CONDITION, True):
            return []

        def tell(what: str) -> None:
            self._on_progress(Progress(*claim.run, 0.0, what))

        return await self._limiter.acquire_all([use_for(use, inputs) for use in stage.limits], tell)

    def _context_for(
        self, claim: Claim, stage: StagePlan, plan: StoredPlan, clock: StageClock, task: asyncio.Task[None]
    ) -> StageContext:
        def progressed(fraction: float, message: str) -> None:
            clock.progressed()
            self._on_progress(Progress(*claim.run, fraction, message))

        return StageContext(
            claim.flow_id,
            stage.name,
            claim.attempt,
            claim.token.fence,
            queue=claim.queue,
            token=claim.token,
            children=partial(plan.names, stage.children),
            deadline=_deadline_of(claim, stage),
            storage=self._storage,
            on_progress=progressed,
            on_group=self._on_group,
            on_log=None if self._on_log is None else partial(self._on_log, claim),
            begin_waits=partial(self._begin_waits, claim, self._stages.get(stage.stage), task),
        )

    def _begin_waits(
        self, claim: Claim, function: AnyStage | None, task: asyncio.Task[Any], stage_context: StageContext
    ) -> Waits:
        if function is None or not function.is_async:
            raise DefinitionError(
                f"stage {stage_context.stage} is a plain def, so it can't wait without holding its slot",
                "make it an `async def` and await this",
            )
        return Waits(self._store, self._storage, claim, stage_context.stage, task, stage_context.suspend, stage_context.cancel)

    async def _inputs(self, claim: Claim, stage: StagePlan, plan: StoredPlan) -> dict[str, Any]:
        """The stage's arguments as plain data: its literals, with its children's results in their places."""
        if is_item(claim.index):
            return (await self._shared.of(claim, plan.stage(stage_of(claim.index)))).arguments(claim.literals)
        if stage.hook:
            return await told(claim.literals, self._whole)
        arguments: dict[str, Any] = unpacked(claim.literals) if claim.literals else {}
        if not stage.bindings:
            return arguments
        packed = claim.results
        if packed is None:
            packed = await self._store.results(claim.flow_id, sorted({binding.child for binding in stage.bindings}))
        found = await gathered(self._store, claim.flow_id, stage.bindings, packed, self._whole)
        return found.filled(arguments, stage.bindings)

    async def _read_shared(self, flow_id: str, index: int, stage: StagePlan) -> Shared:
        """What the items of a map have in common."""
        literals, bindings = shared_part(await literals_of(self._store, flow_id, index), stage)
        packed = await self._store.results(flow_id, sorted({binding.child for binding in bindings}))
        return Shared(literals, bindings, await gathered(self._store, flow_id, bindings, packed, self._whole))

    async def _whole(self, data: bytes) -> bytes:
        if self._storage is None:
            raise StorageNotConfigured("a child's result lies in artifact storage")
        return await self._storage.in_thread(unspill, self._storage, data)

    async def _call(self, function: AnyStage, clock: StageClock, stage_context: StageContext, arguments: dict[str, Any]) -> Any:
        enter(stage_context)
        try:
            if not clock.is_limited:
                return await self._work(function, arguments)
            try:
                async with clock:
                    return await self._work(function, arguments)
            except (StageTimedOut, StageStalled):
                stage_context.cancel()
                raise
        finally:
            stage_context.end_waits()

    def _work(self, function: AnyStage, arguments: dict[str, Any]) -> Any:
        if function.is_async:
            return function.fn(**arguments)
        # The thread sees this task's context, so context() and Artifact work there too.
        return self.threads.run(partial(contextvars.copy_context().run, function.fn, **arguments))

    async def _completed(
        self, claim: Claim, function: AnyStage, stage_context: StageContext, result: Any, plan: StoredPlan
    ) -> Complete:
        packed = function.signature.packed_result(result)
        if len(packed) > INLINE_BYTES_MAX:
            if self._storage is None:
                raise ValueTooLarge(
                    stage_context.stage, "result", len(packed), INLINE_BYTES_MAX,
                    "set FLOWQ_ARTIFACTS, and it goes there by itself; or write it to an artifact and return that",
                )  # fmt: skip
            packed = await self._storage.in_thread(spill, self._storage, stage_context.folder, packed)
        artifacts = stage_context.committed_artifacts()
        noted = opaque(_pack(artifacts)) if artifacts else _NOTHING
        index = stage_of(claim.index)
        done = (*claim.run, opaque(packed), noted, plan.releases(index))
        if not is_item(claim.index):
            return Complete(*done)
        return CompleteItem(*done, *plan.bearers(index))


def _deadline_of(claim: Claim, stage: StagePlan) -> datetime.datetime | None:
    if stage.timeout_ms is None and claim.deadline_in_ms is None:
        return None
    ends_in_ms = min(ms for ms in (stage.timeout_ms, claim.deadline_in_ms) if ms is not None)
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(milliseconds=ends_in_ms)


def _stopped(stage_context: StageContext, claim: Claim) -> Outcome | None:
    return Release(*claim.run) if stage_context.is_given_back else stage_context.suspension
