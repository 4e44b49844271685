"""What fires schedules: a duty of every process that knows the pipelines. It may run in many at once: a firing is one flow."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from flowq.engine.duties.closing import cancel
from flowq.errors import FlowConflict, FlowNotFound, FlowqError, ServerError
from flowq.model.builtin import BUILTIN_QUEUE
from flowq.model.schedule import CALLED_OFF, MISSED_MS, Firing
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.model.timing import Timing
from flowq.pipeline import Pipeline
from flowq.pipeline.stage import AnyStage
from flowq.store.schedules import Due, Schedules
from flowq.store.store import Store
from flowq.store.views import Views

log = logging.getLogger("flowq.engine")

# How often it is looked what is due.
SCHEDULE_SECONDS = 1.0
_NOTE_CHARS_MAX = 300

# What makes a flow of the arguments of a pipeline, by the pipeline's name.
Makers: TypeAlias = Mapping[str, Callable[..., FlowSpec[Any]]]


def makers_of(pipelines: Iterable[Pipeline[..., Any]], stages: Iterable[AnyStage]) -> Makers:
    """By name: the pipelines, and the stages as pipelines of one."""
    own = (stage for stage in stages if stage.options.queue != BUILTIN_QUEUE)
    return {stage.name: stage.flow for stage in own} | {pipeline.name: pipeline for pipeline in pipelines}


class Scheduler:
    """Fires what is due of the schedules whose pipelines are known here.

    Args:
        store: the store.
        makers: see `makers_of`.
    """

    def __init__(self, store: Store, makers: Makers) -> None:
        self._store = store
        self._makers = makers
        self._schedules = Schedules(store)
        self._views = Views(store)

    async def run_once(self) -> None:
        """One look at what is due."""
        now = await self._views.now()
        for tag in self._store.partitions:
            async for due in self._schedules.due(tag, now):
                if due.schedule.pipeline in self._makers:
                    await self._fire(due, now)

    async def _fire(self, due: Due, now: int) -> None:
        schedule = due.schedule
        if due.is_called_off:
            await self._undo(due)
            return
        if due.is_by_hand:
            is_fired = await self._schedules.fired(due, 0, await self._made(due, due.at, due.flow_id))
            if not is_fired and await self._schedules.is_called_off(due.flow_id):
                await self._undo(due)
            return
        at = due.at if schedule.catch_up == "all" else max(due.at, schedule.timetable.latest(now))
        if at <= due.latest.at:
            # Somebody else has dealt with it in this moment, and then this does nothing; or the server's clock was put back.
            await self._schedules.fired(due, schedule.timetable.after(due.latest.at), due.latest)
            return
        ended_at = await self._ended_at(due.latest.flow_id)
        running = ended_at is None
        # What has waited for the end of the flow before, as it was told to, is late since then.
        late_since = max(at, ended_at or 0) if schedule.overlap == "queue" else at
        was_missed = now - late_since > MISSED_MS
        # What is made up for with `all` is neither left out nor cancelled by the next of these.
        if running and (schedule.overlap == "queue" or (schedule.catch_up == "all" and was_missed)):
            return
        if schedule.catch_up == "none" and was_missed:
            outcome = _left_out(due, at, "it was missed: no worker that knows the pipeline was there")
        elif running and schedule.overlap == "skip":
            outcome = _left_out(due, at, f"flow {due.latest.flow_id} still ran")
        else:
            if running:
                await self._cancel(due.latest.flow_id, f"schedule {schedule.id} has fired again")
            outcome = await self._made(due, at, schedule.flow_id(at))
        await self._schedules.fired(due, schedule.timetable.after(at), outcome)

    async def _undo(self, due: Due) -> None:
        """Cancels what was made while somebody called it off."""
        await self._cancel(due.flow_id, CALLED_OFF)
        await self._schedules.forget(due.flow_id)

    async def _made(self, due: Due, at: int, flow_id: str) -> Firing:
        """Adds the flow; where that can't be, the note says why, and the timetable goes on."""
        schedule = due.schedule
        try:
            spec = self._makers[schedule.pipeline](**msgspec.msgpack.decode(schedule.inputs))
            options = FlowOptions(
                id=flow_id,
                tenant=schedule.tenant,
                tags=schedule.tags,
                priority=schedule.priority,
                timing=Timing(deadline_ms=schedule.deadline_ms),
            )
            await self._store.submit([(flow_id, spec.optioned(options))])
        except FlowConflict:
            log.warning("schedule %s: flow %s is there with other inputs", schedule.id, flow_id)
        except ServerError:
            raise
        except FlowqError as error:
            log.error("schedule %s can't make its flow: %s", schedule.id, error)
            return _left_out(due, at, error.problem)
        return Firing(at, flow_id)

    async def _ended_at(self, flow_id: str) -> int | None:
        """When a flow ended; 0: it is not there (any more); None: it goes on."""
        if not flow_id:
            return 0
        try:
            head = await self._views.head(flow_id)
        except FlowNotFound:
            return 0
        return head.ended_at or None

    async def _cancel(self, flow_id: str, reason: str) -> None:
        try:
            await cancel(self._store, flow_id, reason)
        except FlowNotFound:
            return


def _left_out(due: Due, at: int, note: str) -> Firing:
    return Firing(at, due.latest.flow_id, note[:_NOTE_CHARS_MAX])
