"""One stage's bar: how long it waited in the queue, ran, failed, and backed off, each in a shade of its own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, Literal, NamedTuple

from flowq.cli.render import palette
from flowq.cli.render.axis import Axis, Busy
from flowq.cli.render.ink import Line, Span
from flowq.model.snapshot import AttemptSnapshot, StageSnapshot

Shade = Literal["back_off", "wait", "spent", "run"]

# Later ones are painted over earlier ones, so that a short run is not hidden by a long wait.
_ORDER: Final[tuple[Shade, ...]] = ("back_off", "wait", "spent", "run")
_CHAR: Final[dict[Shade, tuple[str, str]]] = {"back_off": ("╌", "-"), "wait": ("░", ":"), "spent": ("▓", "x"), "run": ("█", "#")}
_STYLE: Final[dict[Shade, str]] = {"back_off": "dim", "wait": "wait", "spent": "bad"}

# How a run ends that has not failed: it waits, its worker was stopped, or the flow was retried by hand after it.
_NO_FAILURES: Final = ("suspended", "released", "completed", "skipped")
# How a run ends that no other follows unless somebody retries the flow: until then nothing is waited for.
_LAST: Final = (*_NO_FAILURES, "failed")


class Stretch(NamedTuple):
    """What a stage did for a while. `run` is an attempt that runs, completed it or was cancelled; `spent` one that failed."""

    shade: Shade
    start: int
    end: int


def stretches(stage: StageSnapshot, now: int) -> Iterator[Stretch]:
    """What the stage did, in order of time; moments are milliseconds since 1970."""
    before: AttemptSnapshot | None = None
    for run in stage.history:
        end = run.started_at + round(run.seconds * 1000)
        yield from _back_off(before, run.attempt, run.started_at)
        if stage.started_at != run.started_at or stage.state == "scheduled":
            yield Stretch("run" if run.outcome in _NO_FAILURES else "spent", run.started_at, end)
        before = run
    if stage.state in ("ready", "scheduled"):
        ready_at = now if stage.ready_at is None else min(stage.ready_at, now)
        yield from _back_off(before, stage.attempt + 1, ready_at)
        if stage.state == "ready":
            yield Stretch("wait", ready_at, now)
        return
    if stage.started_at is None:
        return
    queued_at = stage.started_at - round((stage.wait_seconds or 0) * 1000)
    yield from _back_off(before, stage.attempt, queued_at)
    yield Stretch("wait", queued_at, stage.started_at)
    if stage.state == "skipped" or (
        stage.reused is not None and not stage.runs
    ):  # a worker only looked at its condition, or at what is known
        return
    yield Stretch("spent" if stage.state == "failed" else "run", stage.started_at, _run_end(stage, now))


def _back_off(before: AttemptSnapshot | None, attempt: int, until: int) -> Iterator[Stretch]:
    """The time between a failed try and the next attempt; not that before a retry by hand, with which attempts begin anew."""
    if before is not None and before.outcome not in _LAST and attempt >= before.attempt:
        end = before.started_at + round(before.seconds * 1000)
        if until > end:
            yield Stretch("back_off", end, until)


def busy(stages: Iterable[StageSnapshot], now: int) -> list[Busy]:
    """When anything ran: what the axis must show at full scale. Waiting alone may be squeezed: its length stands beside."""
    return [
        Busy(stretch.start, stretch.end)
        for stage in stages
        for stretch in stretches(stage, now)
        if stretch.shade in ("run", "spent")
    ]


def bar(stages: Sequence[StageSnapshot], axis: Axis, now: int, unicode: bool) -> Line:
    """The bar of a stage, or of a folded group laid over one another."""
    shades: list[Shade | None] = [None] * axis.width
    all_stretches = [stretch for stage in stages for stretch in stretches(stage, now)]
    for shade in _ORDER:
        for stretch in all_stretches:
            if stretch.shade == shade and stretch.end >= stretch.start:
                first, last = _columns(stretch, axis)
                # A wait of a few milliseconds is no news; a run is, however short.
                if last > first or shade in ("run", "spent"):
                    for column in range(first, max(last, first + 1)):
                        shades[column] = shade
    style = palette.style(stages[0].state if len(stages) == 1 else "running" if _any_runs(stages) else "completed")
    painted: list[Span] = []
    for shade, run in groupby(shades):
        length = len(list(run))
        painted.append(Span(" " * length) if shade is None else Span(_char(shade, unicode) * length, _STYLE.get(shade, style)))
    return tuple(painted)


def legend(unicode: bool) -> list[str]:
    """What the shades mean, one item each."""
    words: dict[Shade, str] = {"wait": "in queue", "run": "running", "spent": "failed try", "back_off": "back-off"}
    return [f"{_char(shade, unicode)} {word}" for shade, word in words.items()]


def _char(shade: Shade, unicode: bool) -> str:
    return _CHAR[shade][0 if unicode else 1]


def _columns(stretch: Stretch, axis: Axis) -> tuple[int, int]:
    first = min(int(axis.column(stretch.start)), axis.width - 1)
    return first, min(round(axis.column(stretch.end)), axis.width)


def _run_end(stage: StageSnapshot, now: int) -> int:
    if stage.started_at is None or stage.state == "running" or (stage.state == "suspended" and stage.items is not None):
        return now
    if stage.run_seconds is not None:
        return stage.started_at + round(stage.run_seconds * 1000)
    return stage.ended_at if stage.ended_at is not None else stage.started_at


def _any_runs(stages: Sequence[StageSnapshot]) -> bool:
    return any(stage.state == "running" for stage in stages)
