"""One line per event: what `watch` prints without a terminal, and `inspect --events` below the flow."""

from __future__ import annotations

from typing import Final

from flowq.cli.documents import iso
from flowq.cli.render import palette
from flowq.cli.render.ink import Line, Span, pad, span
from flowq.cli.render.screen import Screen
from flowq.cli.render.sizes import shown_moment, shown_percent
from flowq.model.event import Event

# The state whose glyph and colour stand for what happened.
_STATE_OF: Final = {
    "added": "ready", "released": "ready", "promoted": "ready", "claimed": "running", "progressed": "running",
    "signalled": "ready", "resumed": "ready", "suspended": "suspended", "completed": "completed", "failed": "failed",
    "retried": "scheduled", "rescued": "retrying", "skipped": "skipped", "cancelled": "cancelled",
    "pruned": "cancelled", "delayed": "scheduled", "paused": "paused", "held": "blocked",
}  # fmt: skip
# What these tell has begun before.
_AGAIN: Final = ("retried", "suspended")
_NAME_WIDTH: Final = 18


def event_line(event: Event, screen: Screen) -> Line:
    """`01:02:03.456 ▶ claimed    encode             attempt 1 · worker-3`."""
    state = _STATE_OF.get(event.verb, "")
    style = palette.style(state)
    details = [
        f"attempt {event.attempt}" if event.attempt and event.verb in ("claimed", "retried", "failed") else "",
        shown_percent(event.progress),
        event.note,
        f"{'again' if event.verb in _AGAIN else 'begins'} at {_due(event.due_at, event.at)}" if event.due_at is not None else "",
    ]
    text = screen.dot.join(part for part in details if part)
    return (
        Span(iso(event.at)[11:23] + " ", "dim"),
        Span(palette.glyph(state, screen.unicode) + " ", style),
        span(pad(event.verb, 10), style),
        span(" " + pad("(flow)" if event.stage is None else event.stage, _NAME_WIDTH), "bold" if event.stage is None else ""),
        span(" " + text if text else ""),
    )


def _due(due_at: int, at: int) -> str:
    """`01:02:03`, with the date where it is another day."""
    return iso(due_at)[11:19] if iso(due_at)[:10] == iso(at)[:10] else shown_moment(due_at)
