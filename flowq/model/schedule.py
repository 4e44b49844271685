"""Schedules: which pipeline is run when, again and again. Pure: the moment that is asked about is always given.

The one importer of cronsim, which knows time zones and what becomes of 02:30 when clocks change.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args
from zoneinfo import ZoneInfo

import msgspec

from flowq.errors import InvalidValue
from flowq.model.duration import Duration, shown_duration, to_ms
from flowq.model.fleet import WorkerSnapshot

if TYPE_CHECKING:
    from cronsim import CronSim

# What becomes of a firing while the flow of the one before still runs: it is left out; it waits; that flow is cancelled.
Overlap = Literal["skip", "queue", "replace"]
# Which firings that could not be made in time are made up for: the last one; none; all, one after the other.
CatchUp = Literal["one", "none", "all"]

EVERY_MS_MIN = 1_000
# A firing that is later than this was missed: no worker was there that knew the pipeline.
MISSED_MS = 60_000
# Why a flow is cancelled that a schedule was run for, before it was made.
CALLED_OFF = "cancelled before it was made"


class Timetable(msgspec.Struct, frozen=True, array_like=True):
    """When it fires: by `cron` in the time zone `tz`, or every `every_ms`, counted from 1970, so that it stays in step."""

    cron: str = ""
    every_ms: int = 0
    tz: str = "UTC"

    @classmethod
    def checked(cls, cron: str | None, every: Duration | None, tz: str) -> Timetable:
        """The timetable as users write it, or InvalidValue."""
        if (cron is None) == (every is None):
            raise InvalidValue("cron", cron, "either cron= or every=")
        try:
            ZoneInfo(tz)
        except (ValueError, OSError, LookupError, TypeError):
            raise InvalidValue("tz", tz, "a time zone such as 'Europe/Berlin' or 'UTC', known to this host") from None
        if every is not None:
            return cls("", to_ms(every, "every", least_ms=EVERY_MS_MIN), tz)
        timetable = cls(cron or "", 0, tz)
        try:
            timetable.after(0)
        except Exception as error:  # cronsim's own, and what a value of another type leads to
            expected = "minute, hour, day, month and weekday, such as '0 2 * * *'"
            raise InvalidValue("cron", cron, f"{expected} ({error or 'it never comes'})") from None
        return timetable

    def after(self, ms: int) -> int:
        """The first moment after this one at which it fires, milliseconds since 1970."""
        if self.every_ms:
            return (ms // self.every_ms + 1) * self.every_ms
        return round(next(self._simulated(ms)).timestamp() * 1000)

    def latest(self, ms: int) -> int:
        """The last moment at which it was to fire until this one."""
        if self.every_ms:
            return ms // self.every_ms * self.every_ms
        return round(next(self._simulated(ms + 1, backwards=True)).timestamp() * 1000)

    @property
    def sentence(self) -> str:
        """`0 2 * * * in Europe/Berlin`, `every 5m`."""
        return f"every {shown_duration(self.every_ms / 1000)}" if self.every_ms else f"{self.cron} in {self.tz}"

    def _simulated(self, ms: int, *, backwards: bool = False) -> CronSim:
        from cronsim import CronSim

        return CronSim(self.cron, datetime.fromtimestamp(ms / 1000, ZoneInfo(self.tz)), reverse=backwards)


class Schedule(msgspec.Struct, frozen=True, array_like=True):
    """A schedule as it is stored.

    Attributes:
        id: its name, by which it is replaced, paused and removed.
        pipeline: the name of the pipeline, or of a stage.
        inputs: its arguments, a msgpack map.
        timetable: when it fires.
        overlap: what happens while the flow of the firing before still runs.
        catch_up: which missed firings are made up for.
        tenant, tags, priority, deadline_ms: of its flows.
        is_paused: whether it fires at all.
    """

    id: str
    pipeline: str
    inputs: bytes
    timetable: Timetable
    overlap: Overlap = "skip"
    catch_up: CatchUp = "one"
    tenant: str = ""
    tags: tuple[str, ...] = ()
    priority: int = 0
    deadline_ms: int = 0
    is_paused: bool = False

    def flow_id(self, ms: int, microseconds: int = 0) -> str:
        """The id of the flow of one firing: the same whoever makes it, so that it is made once."""
        moment = datetime.fromtimestamp(ms // 1000, UTC)
        fraction = f".{ms % 1000:03d}" if ms % 1000 or microseconds else ""
        return f"{self.id}@{moment:%Y-%m-%dT%H:%M:%S}{fraction}{f'{microseconds:03d}' if microseconds else ''}Z"


class Firing(msgspec.Struct, frozen=True, array_like=True):
    """What became of the latest firing of a schedule.

    Attributes:
        at: the moment it was due.
        flow_id: the latest flow that was made.
        note: why none was made, if none was.
    """

    at: int = 0
    flow_id: str = ""
    note: str = ""


class ScheduleSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A schedule as it stands.

    Attributes:
        id: its name.
        pipeline: what it runs.
        timetable: when, for people.
        overlap, catch_up: as they were given.
        inputs: the pipeline's arguments, as plain data.
        next_at: when it fires next, milliseconds since 1970; None: it is paused.
        last_at: the latest moment it was due and dealt with.
        last_flow: the id of its latest flow; empty: there was none yet.
        note: why the latest firing made no flow, if it made none.
        problem: why the next one can't be made, as far as is known: no worker knows the pipeline.
    """

    id: str
    pipeline: str
    timetable: str
    overlap: Overlap
    catch_up: CatchUp
    inputs: Any = None
    next_at: int | None = None
    last_at: int | None = None
    last_flow: str = ""
    note: str = ""
    problem: str = ""


def problem_of(schedule: Schedule, workers: Sequence[WorkerSnapshot]) -> str:
    """Why its next flow can't be made, as far as is known; empty: it can."""
    if any(schedule.pipeline in (*worker.pipelines, *worker.stages) for worker in workers):
        return ""
    return f"no worker knows pipeline {schedule.pipeline}"


def checked_word(value: object, field: str, kind: Any) -> Any:
    """One of the words of a Literal, or InvalidValue."""
    if value not in get_args(kind):
        raise InvalidValue(field, value, " or ".join(repr(word) for word in get_args(kind)))
    return value
