"""The table of `flowq inspect`: one row per stage, or per group of like stages when there are many.

The columns are laid out here and not by a library: those shrink what does not fit until it vanishes without a word.
Which columns a width has room for is decided by `_columns`; a note that does not fit beside the bar goes below it, whole.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

from flowq.cli.render import palette, tree, waterfall
from flowq.cli.render.axis import Axis
from flowq.cli.render.ink import Line, Span, cells, crop_middle, pad, span, wrap
from flowq.cli.render.items import and_items, times, with_items
from flowq.cli.render.notes import Note, Notes
from flowq.cli.render.screen import Screen
from flowq.cli.render.sizes import shown_counts, shown_percent, shown_seconds
from flowq.model.snapshot import FlowSnapshot, StageSnapshot

# Up to this many stages each has a row of its own; above it, like stages are folded and the output is bounded.
ROWS_MAX: Final = 60
_PICKS_MAX: Final = 4
_NOTE_ROWS_MAX: Final = 4
_NAME_MIN: Final = 12
_NOTE_MIN: Final = 24
# What is worth a row of its own inside a folded group, most urgent first.
_PICKED: Final = ("failed", "scheduled", "running")


class _Columns(NamedTuple):
    """The widths of the columns; 0: left out."""

    name: int
    bar: int
    done: int
    tries: int
    worker: int
    wait: int
    time: int
    note: int


class _Cells(NamedTuple):
    """One row before it is laid out."""

    state: str
    is_critical: bool
    name: str
    below: str
    bar: Sequence[StageSnapshot]
    done: str
    tries: str
    worker: str
    wait: str
    time: str
    note: Note


def stage_table(snapshot: FlowSnapshot, screen: Screen, notes: Notes, rows_max: int | None = None) -> list[Line]:
    """Head and rows of the table."""
    limit = ROWS_MAX if rows_max is None else rows_max
    rows = with_items(_rows(snapshot, screen, limit), snapshot.graph, screen)
    shown, hidden = rows[: max(limit, 1)], rows[max(limit, 1) :]
    graph = and_items(snapshot.graph)
    filled = [_cells(snapshot, graph, row, screen, notes) for row in shown]
    columns = _columns(filled, screen)
    end = snapshot.ended_at if snapshot.ended_at is not None else snapshot.at
    axis = Axis(snapshot.created_at, end, waterfall.busy(snapshot.graph, snapshot.at), columns.bar)
    lines = [_header(columns, axis, screen)]
    for row, place in zip(filled, shown, strict=True):
        lines += _laid_out(row, columns, axis, snapshot.at, screen)
        lines += [(span(f"    {place.below}{place.more}", "dim"),)] if place.more else []
    if hidden:
        count = sum(len(row.members) for row in hidden if not row.is_pick)
        lines.append((span(f"{screen.ellipsis} and {count:,} more stages: `flowq inspect -o json` has all", "dim"),))
    return lines


def gap_mark(unicode: bool) -> str:
    """What stands in the header where idle time was squeezed out of the bars."""
    return "≈" if unicode else "~"


def _rows(snapshot: FlowSnapshot, screen: Screen, limit: int) -> list[tree.Row]:
    graph = snapshot.graph
    index_of = {stage.name: index for index, stage in enumerate(graph)}
    # A child that is unknown or comes later can only be a damaged record: the rest is still worth showing.
    children = [
        [index_of[child] for child in stage.children if index_of.get(child, index) < index] for index, stage in enumerate(graph)
    ]
    lines = tree.UNICODE if screen.unicode else tree.ASCII
    deepest = max(2, screen.width // 16)
    if len(graph) <= limit:
        return tree.rows(children, lines, deepest)
    return tree.folded(children, lambda index: graph[index].stage, lambda group: _picks(snapshot, group), lines, deepest)


def _picks(snapshot: FlowSnapshot, group: Sequence[int]) -> list[int]:
    """The members of a group that somebody looks for: the root cause, failures, retries, a few that run."""
    found = [index for index in group if snapshot.graph[index].name == snapshot.root_cause]
    for state in _PICKED:
        for index in group:
            if len(found) >= _PICKS_MAX:
                return found
            if snapshot.graph[index].state == state and index not in found:
                found.append(index)
    return found


def _cells(snapshot: FlowSnapshot, graph: Sequence[StageSnapshot], row: tree.Row, screen: Screen, notes: Notes) -> _Cells:
    stages = [graph[index] for index in row.members]
    if len(stages) > 1:
        return _group_cells(stages, row, screen)
    stage = stages[0]
    retries = stage.state == "running" and stage.attempt > 1
    return _Cells(
        state="retrying" if retries else "reused" if stage.reused is not None else stage.state,
        is_critical=stage.is_critical,
        name=row.prefix + stage.name + (times(stage.items.count, screen) if stage.items is not None else ""),
        below=row.below,
        bar=stages,
        done=_done(stage),
        tries=f"{stage.attempt}/{stage.attempts}" if stage.attempt else "",
        worker=stage.worker,
        wait=shown_seconds(_waited(stage, snapshot.at)),
        time=shown_seconds(stage.run_seconds),
        note=notes.of(stage),
    )


def _group_cells(stages: Sequence[StageSnapshot], row: tree.Row, screen: Screen) -> _Cells:
    counts = Counter(stage.state for stage in stages)
    state = next((state for state in palette.ORDER if counts[state]), stages[0].state)
    runs = sorted(stage.run_seconds for stage in stages if stage.run_seconds is not None)
    waits = sorted(stage.wait_seconds for stage in stages if stage.wait_seconds is not None)
    share = sum(1.0 if stage.is_done else stage.progress or 0.0 for stage in stages) / len(stages)
    most = max((stage.attempt for stage in stages), default=0)
    return _Cells(
        state=state,
        is_critical=any(stage.is_critical for stage in stages),
        name=row.prefix + stages[0].stage + times(len(stages), screen),
        below=row.below,
        bar=stages,
        done=shown_percent(share) if share else "",
        tries=f"{most}/{stages[0].attempts}" if most else "",
        worker="",
        wait=shown_seconds(waits[len(waits) // 2]) if waits else "",
        time=shown_seconds(runs[len(runs) // 2]) if runs else "",
        note=Note(shown_counts((stage.state for stage in stages), screen.unicode) + ("  (median times)" if runs else "")),
    )


def _done(stage: StageSnapshot) -> str:
    if stage.state == "completed":
        return "100%"
    return shown_percent(stage.progress) if stage.state in ("running", "suspended") else ""


def _waited(stage: StageSnapshot, now: int) -> float | None:
    if stage.state == "ready" and stage.ready_at is not None:
        return (now - stage.ready_at) / 1000
    return stage.wait_seconds


def _columns(rows: Sequence[_Cells], screen: Screen) -> _Columns:
    """Which columns this width has room for. Narrow: name, bar, done and time; the rest is added as there is room."""
    width = screen.width
    tries = max((len(row.tries) for row in rows), default=0)
    done = max(4, *(len(row.done) for row in rows))
    time = max(5, *(len(row.time) for row in rows))
    worker = min(max((cells(row.worker) for row in rows), default=0), 16) if width >= 110 else 0
    wait = max(4, *(len(row.wait) for row in rows)) if width >= 90 and any(row.wait for row in rows) else 0
    tries = max(3, tries) if width >= 72 and tries else 0
    longest = max(cells(row.name) for row in rows)
    name = max(_NAME_MIN, min(longest, width * 2 // 5))
    fixed = 4 + sum(size + 1 for size in (name, done, tries, worker, wait, time) if size)
    room = width - fixed - 1
    # A note column is worth having only where most notes fit into it beside a bar that still tells something.
    note_wish = max((cells(row.note.text) for row in rows), default=0)
    note = 0
    if room >= 20 + _NOTE_MIN and note_wish:
        note = min(note_wish, room - max(20, room * 2 // 5))
        fit = sum(cells(row.note.text) <= note for row in rows)
        note = note if fit * 3 >= len(rows) * 2 else 0
    return _Columns(name, max(8, room - note - (1 if note else 0)), done, tries, worker, wait, time, note)


def _header(columns: _Columns, axis: Axis, screen: Screen) -> Line:
    parts = ["    " + pad("stage", columns.name), axis.header(gap_mark(screen.unicode)), pad("done", columns.done, right=True)]
    parts += [pad(label, size, right=True) for label, size in (("try", columns.tries),) if size]
    parts += [pad("worker", columns.worker)] if columns.worker else []
    parts += [pad("wait", columns.wait, right=True)] if columns.wait else []
    parts.append(pad("time", columns.time, right=True))
    return (Span(" ".join(parts), "head"),)


def _laid_out(row: _Cells, columns: _Columns, axis: Axis, now: int, screen: Screen) -> list[Line]:
    mark = ("◆" if screen.unicode else "*") if row.is_critical else " "
    name = pad(crop_middle(row.name, columns.name, screen.ellipsis), columns.name)
    style = palette.style(row.state)
    parts: list[Span] = [
        Span(palette.glyph(row.state, screen.unicode) + " ", style),
        Span(mark + " ", "bold"),
        span(name, "bold" if row.is_critical else "dim" if style == "dim" else ""),
        Span(" "),
        *waterfall.bar(row.bar, axis, now, screen.unicode),
        span(" " + pad(row.done, columns.done, right=True)),
    ]
    if columns.tries:
        parts.append(span(" " + pad(row.tries, columns.tries, right=True), "retry" if _had_retries(row.tries) else ""))
    if columns.worker:
        parts.append(span(" " + pad(crop_middle(row.worker, columns.worker, screen.ellipsis), columns.worker), "dim"))
    if columns.wait:
        parts.append(span(" " + pad(row.wait, columns.wait, right=True), "dim"))
    parts.append(span(" " + pad(row.time, columns.time, right=True)))
    text = _full_note(row, columns)
    if not text:
        return [tuple(parts)]
    if cells(text) <= columns.note:
        return [(*parts, span(" " + text, row.note.style))]
    return [tuple(parts), *_below(row, text, screen)]


def _full_note(row: _Cells, columns: _Columns) -> str:
    """The note, with what has no column at this width."""
    tries = f"try {row.tries}" if not columns.tries and _had_retries(row.tries) and "try " not in row.note.text else ""
    return "  ".join(part for part in (tries, row.note.text) if part)


def _had_retries(tries: str) -> bool:
    return bool(tries) and not tries.startswith("1/")


def _below(row: _Cells, text: str, screen: Screen) -> list[Line]:
    # The tree's lines go on beside the note, so that the eye can follow them.
    indent = "    " + row.below + "  "
    wrapped = wrap(text, screen.width - cells(indent))
    if len(wrapped) > _NOTE_ROWS_MAX:
        wrapped = [*wrapped[: _NOTE_ROWS_MAX - 1], f"{screen.ellipsis} (whole in `-o json`)"]
    return [(Span(indent, "dim"), span(part, row.note.style)) for part in wrapped]
