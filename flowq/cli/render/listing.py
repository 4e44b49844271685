"""`flowq list`: one row per flow."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.cli.render import palette
from flowq.cli.render.ink import Line, Span, span
from flowq.cli.render.screen import Screen
from flowq.cli.render.sizes import shown_done, shown_moment, shown_seconds
from flowq.cli.render.table import table
from flowq.model.snapshot import FlowSummary


def listing(flows: Sequence[FlowSummary], now_ms: int, screen: Screen) -> list[Line]:
    """The table. Ids are whole: they are what the next command wants."""
    rows = [_row(flow, now_ms, screen) for flow in flows]
    head = ["", "id", "pipeline", "state", "stages", "took", "added", "tenant, tags"]
    if screen.width < 100:  # the moment of submission is the least of what a narrow screen needs
        head = [*head[:6], head[7]]
        rows = [[*row[:6], row[7]] for row in rows]
    if not any(row[-1].text for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return table(head, rows, screen)


def _row(flow: FlowSummary, now_ms: int, screen: Screen) -> list[Span]:
    style = palette.style(flow.state)
    seconds = max(0, (flow.ended_at or now_ms) - flow.created_at) / 1000
    belongs = " ".join(part for part in (flow.tenant, *(f"#{tag}" for tag in flow.tags)) if part)
    return [
        Span(palette.glyph(flow.state, screen.unicode), style),
        span(flow.id),
        span(flow.pipeline),
        span(flow.state, style),
        span(shown_done(flow.done, f"{flow.stages:,}", flow.failed)),
        span(shown_seconds(seconds)),
        span(shown_moment(flow.created_at), "dim"),
        span(belongs, "dim"),
    ]
