"""What is, or would be, done to many flows; and failed flows by cause."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.cli.render import palette
from flowq.cli.render.ink import Line, Span, line, span
from flowq.cli.render.listing import listing
from flowq.cli.render.screen import Screen
from flowq.cli.render.sizes import shown_moment, shown_stages
from flowq.cli.render.table import table
from flowq.model.names import parent_id
from flowq.model.report import BulkReport, DeadGroup

_ROWS_MAX = 20
_DONE = {"retry": "retried", "cancel": "cancelled", "prune": "removed"}
_STAGES = {"retry": "to run again", "cancel": "that had not ended", "prune": ""}


def bulk_table(report: BulkReport, now_ms: int, screen: Screen) -> list[Line]:
    """The first of the flows that are meant, and how many there are of each cause."""
    lines = listing(report.flows[:_ROWS_MAX], now_ms, screen)
    if report.matched > _ROWS_MAX:
        lines.append(line(span(f"and {report.matched - _ROWS_MAX:,} more", "dim")))
    if report.by_cause:
        counts = sorted(report.by_cause.items(), key=lambda item: (-item[1], item[0]))[:_ROWS_MAX]
        rows = [[Span(f"{count:,}"), span(cause, "bad")] for cause, count in counts]
        lines += [(), *table(["flows", "cause"], rows, screen)]
    return lines


def bulk_line(report: BulkReport) -> str:
    """The outcome in one sentence."""
    done = _DONE[report.verb]
    stages = f", {shown_stages(report.stages)} {_STAGES[report.verb]}" if report.stages and _STAGES[report.verb] else ""
    if report.is_dry_run:
        hooks = "; hooks only leave the dead list: they go with their flow" if _has_hooks(report) else ""
        return f"{_flows(report.matched)} would be {done}{stages}{hooks}" if report.matched else f"no flow would be {done}"
    held, changed = len(report.held), report.unchanged - len(report.held)
    more = f"; {held:,} {'stays until its' if held == 1 else 'stay until their'} hooks have ended" if held else ""
    more += f"; {changed:,} had changed meanwhile" if changed else ""
    wrong = f"; {len(report.errors):,} could not be" if report.errors else ""
    removed = report.done - len(report.kept)
    parts = [f"{_flows(removed)} {done}{stages}"] if removed or not report.kept else []
    return "; ".join([*parts, *_left_out(report.kept)]) + more + wrong


def bulk_errors(report: BulkReport, screen: Screen) -> list[Line]:
    """Where it failed."""
    rows = [[span(error.id), span(error.error, "bad")] for error in report.errors[:_ROWS_MAX]]
    return table(["id", "error"], rows, screen) if rows else []


def dead_table(groups: Sequence[DeadGroup], screen: Screen) -> list[Line]:
    """Groups of failed flows, a row each."""
    rows = [
        [
            span(group.key),
            Span(f"{group.count:,}"),
            span(group.pipeline),
            span(group.stage),
            span(shown_moment(group.last_at), "dim"),
            Span(("quarantined: " if group.is_poisoned else "") + span(group.cause).text, palette.style("failed")),
        ]
        for group in groups
    ]
    return table(["key", "flows", "pipeline", "stage", "latest", "cause"], rows, screen)


def _has_hooks(report: BulkReport) -> bool:
    return report.verb == "prune" and any(parent_id(flow.id) for flow in report.flows)


def _left_out(kept: Sequence[str]) -> list[str]:
    if len(kept) > 1:
        return [f"{len(kept):,} hook flows left out of the dead list; they go with their flows"]
    return [f"1 hook flow left out of the dead list; it goes with {parent_id(one)}" for one in kept]


def _flows(count: int) -> str:
    return "1 flow" if count == 1 else f"{count:,} flows"
