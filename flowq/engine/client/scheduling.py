"""What of schedules users touch: a part of `FlowProducer`."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any, cast

import msgspec

from flowq.engine.client.client import Client
from flowq.engine.flow.handle import FlowHandle
from flowq.errors import InvalidValue, ScheduleNotFound
from flowq.model.duration import Duration, to_ms
from flowq.model.names import check_name
from flowq.model.schedule import CatchUp, Overlap, Schedule, ScheduleSnapshot, Timetable, checked_word, problem_of
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.pipeline import Pipeline, Stage
from flowq.store.schedules import Schedules
from flowq.store.views import Views


class Scheduling(Client):
    """Schedules: pipelines that are run again and again, by whichever worker knows them."""

    async def schedule(
        self,
        id: str,
        pipeline: Pipeline[..., Any] | Stage[..., Any],
        *args: Any,
        cron: str | None = None,
        every: Duration | None = None,
        tz: str = "UTC",
        overlap: Overlap = "skip",
        catch_up: CatchUp = "one",
        tenant: str = "",
        tags: Sequence[str] = (),
        priority: int = 0,
        deadline: Duration | None = None,
        **kwargs: Any,
    ) -> None:
        """Runs a pipeline again and again. Done again under the same id, it replaces the schedule.

        The arguments are checked now; the flow is made of them anew at each firing, by the code that the worker then has.
        Its id is `<id>@<moment>`, such as `nightly@2030-01-31T01:00:00Z`.

        Args:
            id: the schedule's name.
            pipeline: the pipeline, or a stage as a pipeline of one.
            args, kwargs: its arguments; one that is called like an option below is given by position.
            cron: minute, hour, day, month and weekday, such as `0 2 * * *`, in the time zone `tz`. What falls into the hour
                that is left out in spring comes right after it; at a fixed time in the hour that autumn has twice it comes once.
            every: or: at each multiple of this duration, counted from 1970 in UTC.
            tz: a time zone such as `Europe/Berlin`.
            overlap: while the flow of the firing before still runs, a firing is left out (`skip`), waits for its end
                (`queue`), or has that flow cancelled (`replace`).
            catch_up: of the firings that were missed, because no worker was there, or that had to wait, the last is made up
                for (`one`), none (`none`), or all, one after the other (`all`): each that is more than a minute late then
                waits for the end of the one before, whatever `overlap` says. One is made at each look, once a second.
            tenant, tags, priority, deadline: of its flows, as `add` has them.

        Raises:
            InvalidValue, WrongArguments, DefinitionError, ValueNotStorable, ValueTooLarge: before anything is written.
        """
        wanted = _wanted(id, pipeline, args, kwargs, Timetable.checked(cron, every, tz), overlap, catch_up)
        options = FlowOptions.checked(tenant=tenant, tags=tags, priority=priority)
        wanted = msgspec.structs.replace(
            wanted, tenant=options.tenant, tags=options.tags, priority=priority,
            deadline_ms=0 if deadline is None else to_ms(deadline, "deadline", least_ms=1),
        )  # fmt: skip
        await self._change(wanted.id, lambda known: _kept_paused(wanted, known), is_new=True)

    async def unschedule(self, id: str) -> None:
        """Removes a schedule; flows that it made stay. Raises ScheduleNotFound."""
        schedules = Schedules(self._open.store)
        while not await schedules.remove(await self._known(id)):
            pass

    async def pause_schedule(self, id: str) -> None:
        """It fires no more until it is resumed. Done again, it changes nothing. Raises ScheduleNotFound."""
        await self._change(id, lambda known: msgspec.structs.replace(known, is_paused=True))

    async def resume_schedule(self, id: str) -> None:
        """It fires again, from its next moment on: what it left out is not made up for. Raises ScheduleNotFound."""
        await self._change(id, lambda known: msgspec.structs.replace(known, is_paused=False))

    async def run_schedule(self, id: str) -> FlowHandle[Any]:
        """Makes it fire once, now, beside its timetable, even if it is paused or the flow before still runs. The timetable goes
        on as if nothing had happened: `overlap` and `catch_up` are about its own firings. Done again, it is another flow.

        Returns:
            The flow. A worker that knows the pipeline makes it within a second or so; until then `result` and `events` wait,
            and so does `inspect` if such a worker is there; `cancel` takes it back, and all else raises FlowNotMade.
            FlowNotFound: it could not be made, or the schedule was removed; `schedules` tells.

        Raises:
            ScheduleNotFound: there is none of this id.
        """
        schedule, now = await self._known(id), await Views(self._open.store).now()
        # A timetable fires at whole milliseconds: what is made by hand is neither its flow nor another's of the same moment.
        flow_id = schedule.flow_id(now, secrets.randbelow(999) + 1)
        await Schedules(self._open.store).ask_for(schedule, flow_id, now)
        return self.flow(flow_id)

    async def schedules(self) -> Sequence[ScheduleSnapshot]:
        """All schedules, by id."""
        store = self._open.store
        found, workers = await asyncio.gather(Schedules(store).every(), Views(store).workers())
        return [
            ScheduleSnapshot(
                id=schedule.id,
                pipeline=schedule.pipeline,
                timetable=schedule.timetable.sentence,
                overlap=schedule.overlap,
                catch_up=schedule.catch_up,
                inputs=msgspec.msgpack.decode(schedule.inputs),
                next_at=next_at,
                last_at=latest.at or None,
                last_flow=latest.flow_id,
                note=latest.note,
                problem=problem_of(schedule, workers),
            )
            for schedule, latest, next_at in found
        ]

    async def _known(self, id: str) -> Schedule:
        known = await Schedules(self._open.store).get(check_name(id, "schedule"))
        if known is None:
            raise ScheduleNotFound(id)
        return known

    async def _change(self, id: str, changed: Callable[[Any], Schedule], *, is_new: bool = False) -> None:
        """Changes a schedule, whoever else does so at the same time."""
        schedules, views = Schedules(self._open.store), Views(self._open.store)
        while True:
            known = await (schedules.get(id) if is_new else self._known(id))
            schedule = changed(known)
            next_at = 0 if schedule.is_paused else schedule.timetable.after(await views.now())
            if known is not None and (known.timetable, known.is_paused) == (schedule.timetable, schedule.is_paused):
                next_at = -1
            if await schedules.write(known, schedule, next_at):
                return


def _wanted(
    id: str, pipeline: object, args: Any, kwargs: Any, timetable: Timetable, overlap: object, catch_up: object
) -> Schedule:
    if not isinstance(pipeline, Pipeline | Stage):
        raise InvalidValue("pipeline", pipeline, "the pipeline itself, such as report, and its arguments behind it")
    known = cast("Pipeline[..., Any] | Stage[..., Any]", pipeline)
    spec: FlowSpec[Any] = known(*args, **kwargs) if isinstance(known, Pipeline) else known.flow(*args, **kwargs)
    return Schedule(
        check_name(id, "schedule"), known.name, spec.inputs, timetable,
        checked_word(overlap, "overlap", Overlap), checked_word(catch_up, "catch_up", CatchUp),
    )  # fmt: skip


def _kept_paused(wanted: Schedule, known: Schedule | None) -> Schedule:
    """A release that sets its schedules again does not resume what somebody has paused."""
    return wanted if known is None else msgspec.structs.replace(wanted, is_paused=known.is_paused)
