"""`flowq inspect`: a flow as its head, root cause, tree with waterfall, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Final

from flowq.cli.documents import json_text
from flowq.cli.render import palette
from flowq.cli.render.clean import clean, clean_lines
from flowq.cli.render.hooks import hook_lines
from flowq.cli.render.ink import Line, Span, cells, crop, flowing, line, span, width_of, wrap
from flowq.cli.render.items import and_items, map_of
from flowq.cli.render.logs import shown_usage
from flowq.cli.render.notes import Notes
from flowq.cli.render.resuming import resumes
from flowq.cli.render.screen import Screen
from flowq.cli.render.sizes import shown_done, shown_moment, shown_percent, shown_seconds, shown_stages
from flowq.cli.render.stages import gap_mark, stage_table
from flowq.cli.render.waterfall import legend
from flowq.model.snapshot import FlowSnapshot, FlowSummary, StageSnapshot

_LABEL_WIDTH: Final = 10
_TRACEBACK_LINES_MAX: Final = 8
_GOES_ON: Final = " \\"
_SIGNALS_MAX: Final = 3
_SPAWNED_MAX: Final = 12


def flow_view(snapshot: FlowSnapshot, screen: Screen, *, rows_max: int | None = None, live: bool = False) -> list[Line]:
    """The whole view.

    Args:
        snapshot: the flow.
        screen: what the output can show.
        rows_max: about how many rows the table may have before like stages are folded; None: the default.
        live: leave out what only helps somebody at a prompt.
    """
    notes = Notes(snapshot, screen)
    lines = [*_head(snapshot, screen), *_values(snapshot, screen), *_cause(snapshot, screen)]
    if snapshot.graph:
        table = stage_table(snapshot, screen, notes, rows_max)
        lines += [(), *table, ()]
        lines += _critical_path(snapshot, screen)
        lines += _spawned(snapshot, screen)
        lines += _labelled("hooks", [row for text in hook_lines(snapshot, screen) for row in _text(text, "", screen)])
        lines += _labelled("used", _text(shown_usage(snapshot.usage), "", screen)) if snapshot.usage else []
        lines += _labelled("outputs", [line(span("in " + notes.folder, "dim"))]) if notes.folder else []
        lines += [] if live else _labelled("bars", _legend(screen, table))
    if not live:
        lines += _next(snapshot, screen)
    return lines


def _head(snapshot: FlowSnapshot, screen: Screen) -> list[Line]:
    style = palette.style(snapshot.state)
    state = Span(
        f"{palette.glyph(snapshot.state, screen.unicode)} {snapshot.state.upper()}", "bad-bold" if style == "bad" else style
    )
    seconds = ((snapshot.ended_at or snapshot.at) - snapshot.created_at) / 1000
    items = [
        (state, Span("  "), span(snapshot.id, "bold")),
        line(snapshot.pipeline),
        line(shown_done(snapshot.done, shown_stages(snapshot.stages), snapshot.failed)),
    ]
    if not snapshot.is_final:
        items.append(line(shown_percent(snapshot.progress)))
    items.append(line(shown_seconds(seconds)))
    if snapshot.eta_seconds is not None and not snapshot.is_final:
        items.append(line(f"about {shown_seconds(_rounded(snapshot.eta_seconds))} left"))
    items += [line(text) for text in _waits(snapshot)]
    if snapshot.parent is not None and any(stage.hook for stage in snapshot.graph):
        items.append(line(f"after the end of {snapshot.parent}"))
    if snapshot.run > 1:
        items.append(line(f"run {snapshot.run}"))
    if snapshot.dedup is not None:
        items.append(line(f"dedup {snapshot.dedup.key}"))
    if snapshot.tenant:
        items.append(line(f"tenant {snapshot.tenant}"))
    if snapshot.tags:
        items.append(line("tags " + " ".join(snapshot.tags)))
    if snapshot.priority:
        items.append(line(f"priority {snapshot.priority}"))
    items.append(line(span(_times(snapshot), "dim")))
    return flowing(_wrapped_items(items, screen), screen.width, screen.dot, "  ")


def _waits(snapshot: FlowSnapshot) -> list[str]:
    """When it begins, and how long it has, while that lies ahead."""
    if snapshot.is_final:
        return []
    moments = (
        ("begins", snapshot.begins_at if snapshot.state in ("scheduled", "paused") else None),
        ("deadline", snapshot.deadline_at),
    )
    return [f"{word} in {shown_seconds((at - snapshot.at) / 1000)}" for word, at in moments if at and at > snapshot.at]


def _rounded(seconds: float) -> float:
    """An estimate has no tenths; below 10 s they at least move."""
    return float(round(seconds)) if seconds >= 10 else seconds


def _wrapped_items(items: Sequence[Line], screen: Screen) -> list[Line]:
    """Ids may be 256 characters long: an item wider than the screen is continued on the next line, never cropped."""
    fitting: list[Line] = []
    for item in items:
        if width_of(item) <= screen.width:
            fitting.append(item)
            continue
        *start, last = item
        fitting.extend([tuple(start)] if start else [])
        fitting.extend((Span(row, last.style),) for row in wrap(last.text, screen.width - 2))
    return fitting


def _times(snapshot: FlowSnapshot) -> str:
    if snapshot.ended_at is not None:
        return f"ended {shown_moment(snapshot.ended_at)}"
    return f"added {shown_moment(snapshot.created_at)}"


def _values(snapshot: FlowSnapshot, screen: Screen) -> list[Line]:
    """Inputs and result on one line each: the whole of them is in the JSON."""
    lines: list[Line] = []
    for label, value in (("inputs", snapshot.inputs), ("result", snapshot.result)):
        if value is not None and value != {}:
            text = crop(json_text(value, pretty=False), screen.width - _LABEL_WIDTH - 2, screen.ellipsis)
            lines += _labelled(label, [line(span(text, "dim" if label == "inputs" else ""))])
    if snapshot.result_items:
        text = f"{snapshot.result_items:,} items: `flowq result {shlex.quote(snapshot.id)}`"
        lines += _labelled("result", _text(text, "", screen))
    return lines


def _cause(snapshot: FlowSnapshot, screen: Screen) -> list[Line]:
    """Why it did not complete: the root cause first, then what followed from it."""
    if snapshot.state == "cancelled":
        return _labelled("cancelled", _text(snapshot.cancel_reason or "no reason was given", "", screen))
    if snapshot.pause is not None:
        return _labelled("paused", _text(snapshot.pause.sentence, "", screen))
    cause = _root_cause(snapshot)
    if cause is None and snapshot.fail_reason:
        return _labelled("cause", _text(snapshot.fail_reason, "bad", screen))
    if cause is None or cause.failure is None:
        return []
    tries = f" after {cause.attempt} of {cause.attempts} attempts" if cause.attempts > 1 else ""
    crashes = f", {cause.crashes} crashes" if cause.crashes else ""
    what = f"{cause.name} failed{tries}{crashes}: {cause.failure.error_type}"
    first, *rest = clean_lines(cause.failure.message)
    text = [f"{what}: {first}" if first else what, *rest]
    lines = _labelled("cause", [row for part in text for row in _text(part, "bad", screen)])
    # These end from outside: where that happened is a place in flowq.
    if cause.failure.kind not in ("timeout", "stalled", "poisoned") and (trace := _trace(cause.failure.traceback)):
        hidden = len(trace) - _TRACEBACK_LINES_MAX
        shown = ([f"({hidden} lines more in `-o json`)"] if hidden > 0 else []) + trace[-_TRACEBACK_LINES_MAX:]
        lines += _labelled("at", [(Span(part, "dim"),) for row in shown for part in wrap(row, _room(screen))])
    others = [stage for stage in _failed(snapshot) if stage.name not in (cause.name, map_of(cause.name))]
    if others:
        lines += _labelled("also", _text(f"{shown_stages(len(others))} failed: {_some(others)}", "bad", screen))
    stopped = [stage for stage in snapshot.graph if _is_consequence(stage)]
    if stopped:
        lines += _labelled("so", _text(f"{shown_stages(len(stopped))} can't run: {_some(stopped)}", "", screen))
    return lines


def _trace(traceback: str) -> list[str]:
    """Its lines, without those that only underline a part of the line above: that is lost where lines are wrapped."""
    return [part for part in clean_lines(traceback) if part.strip(" ^~") and not part.startswith("Traceback (")]


def _root_cause(snapshot: FlowSnapshot) -> StageSnapshot | None:
    failed = _failed(snapshot)
    named = [stage for stage in and_items(failed) if stage.name == snapshot.root_cause]
    by_time = sorted(failed, key=lambda stage: stage.ended_at or 0)
    return (named or by_time or [None])[0]


def _failed(snapshot: FlowSnapshot) -> list[StageSnapshot]:
    """The failed stages that keep the flow from completing."""
    return [stage for stage in snapshot.in_state("failed") if not stage.is_tolerated]


def _is_consequence(stage: StageSnapshot) -> bool:
    """Whether it can't run any more; what goes on beside a failure only waits."""
    waits = stage.reason is not None and stage.reason.code == "children"
    return stage.state == "cancelled" or (stage.state == "blocked" and not waits)


def _some(stages: Sequence[StageSnapshot]) -> str:
    names = ", ".join(stage.name for stage in stages[:4])
    return names if len(stages) <= 4 else f"{names} and {len(stages) - 4:,} more"


def _critical_path(snapshot: FlowSnapshot, screen: Screen) -> list[Line]:
    names = list(snapshot.critical_path)
    if len(names) < 2:
        return []
    arrow = " → " if screen.unicode else " -> "
    if len(names) > 12:
        names = [*names[:6], screen.ellipsis, *names[-5:]]
    return _labelled("critical", _text(arrow.join(names), "", screen))


def _legend(screen: Screen, table: Sequence[Line]) -> list[Line]:
    mark, reused = gap_mark(screen.unicode), palette.glyph("reused", screen.unicode)
    items = [*legend(screen.unicode), *([f"{mark} idle time left out"] if mark in table[0][0].text else [])]
    items += [f"{reused} reused"] if any(row[0].text == reused + " " for row in table) else []
    return flowing([line(span(item, "dim")) for item in items], _room(screen), "  ")


def _next(snapshot: FlowSnapshot, screen: Screen) -> list[Line]:
    """The commands that make sense now, ready to be copied."""
    match snapshot.state:
        case "completed":
            commands = [["result", snapshot.id]]
            maker = next((stage for stage in reversed(snapshot.graph) if stage.artifacts), None)
            if maker is not None:
                which = [maker.artifacts[0].name] if len(maker.artifacts) > 1 else []
                commands.append(["artifact", snapshot.id, maker.name, *which])
        case "failed":
            commands = [["retry", snapshot.id], ["inspect", snapshot.id, "--events"]]
        case "cancelled":
            commands = [["retry", snapshot.id]]
        case "paused":
            commands = [["resume", "flow", snapshot.id], ["cancel", snapshot.id]]
        case _:
            commands = [*resumes(snapshot), *_signals(snapshot), ["watch", snapshot.id], ["cancel", snapshot.id]]
    rows = [row for command in commands for row in _folded_command(["flowq", *command], _room(screen))]
    return _labelled("next", [line(span(row, "key")) for row in rows])


def _folded_command(words: Sequence[str], room: int) -> list[str]:
    """The command in rows that a shell joins again. A word is never broken, however long the id."""
    first, *rest = [shlex.quote(word) for word in words]
    rows = [first]
    for position, word in enumerate(rest):
        is_last = position == len(rest) - 1
        if cells(f"{rows[-1]} {word}") <= room - (0 if is_last else len(_GOES_ON)):
            rows[-1] += f" {word}"
        else:
            rows[-1] += _GOES_ON
            rows.append(f"  {word}")
    return rows


def _signals(snapshot: FlowSnapshot) -> list[list[str]]:
    """The commands that send what stages and items wait for."""
    reasons = [stage.reason for stage in and_items(snapshot.graph) if stage.reason is not None and stage.reason.code == "signal"]
    names = dict.fromkeys(name for reason in reasons for name in reason.on)
    return [["signal", snapshot.id, name, "VALUE"] for name in list(names)[:_SIGNALS_MAX]]


def _spawned(snapshot: FlowSnapshot, screen: Screen) -> list[Line]:
    """The flow above, and those beneath with what became of them."""
    lines = _labelled("parent", _text(snapshot.parent, "", screen)) if snapshot.parent else []
    shown = [_beneath(one, screen) for one in snapshot.spawned[:_SPAWNED_MAX]]
    hidden = len(snapshot.spawned) - len(shown)
    more = [f"{screen.ellipsis} and {hidden} more: `flowq inspect -o json` has them"] if hidden else []
    return lines + _labelled("spawned", [row for text in (*shown, *more) for row in _text(text, "", screen)])


def _beneath(flow: FlowSummary, screen: Screen) -> str:
    done = shown_done(flow.done, shown_stages(flow.stages), flow.failed)
    return f"{palette.glyph(flow.state, screen.unicode)} {flow.id}  {flow.pipeline}  {done}"


def _labelled(label: str, rows: Sequence[Line]) -> list[Line]:
    """Rows with a dim word at the left of the first."""
    return [(Span(f"{label if position == 0 else '':<{_LABEL_WIDTH}}", "dim"), *row) for position, row in enumerate(rows)]


def _text(text: str, style: str, screen: Screen) -> list[Line]:
    return [(Span(row, style),) for row in wrap(clean(text), _room(screen))]


def _room(screen: Screen) -> int:
    return screen.width - _LABEL_WIDTH
