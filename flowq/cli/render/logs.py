"""What stages logged, a line each; and what they used up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from flowq.cli.render.clean import clean, clean_lines
from flowq.cli.render.ink import Line, Span, cells, pad, span, wrap
from flowq.cli.render.screen import Screen
from flowq.cli.render.sizes import shown_moment
from flowq.cli.render.table import table
from flowq.model.logs import LogLine
from flowq.model.usage import Usage

_STYLES = {"WARNING": "retry", "ERROR": "bad", "CRITICAL": "bad", "DEBUG": "dim"}


def log_lines(lines: Sequence[LogLine], screen: Screen) -> list[Line]:
    """Time, stage, level and message; long messages go on below themselves."""
    size = max((cells(line.stage) for line in lines), default=0)
    shown: list[Line] = []
    for line in lines:
        front = (
            span(shown_moment(line.at)[11:19] + " ", "dim"),
            Span(pad(clean(line.stage), size) + " ", "bold"),
            Span(pad(clean(line.level), 8), _STYLES.get(line.level, "")),
        )
        indent = 9 + size + 1 + 8
        room = max(20, screen.width - indent)
        rows = [row for part in clean_lines(line.text) for row in wrap(part, room)] or [""]
        shown.append((*front, Span(rows[0], _STYLES.get(line.level, ""))))
        shown += [(Span(" " * indent), Span(row, _STYLES.get(line.level, ""))) for row in rows[1:]]
    return shown


def shown_usage(amounts: Mapping[str, float]) -> str:
    """`tokens 1,200 · seconds 3.5`, without the dot's colour."""
    return ", ".join(f"{name} {amount:,.10g}" for name, amount in sorted(amounts.items()))


def usage_table(found: Sequence[Usage], screen: Screen) -> list[Line]:
    """A row for each day, pipeline and tenant."""
    rows = [[span(one.day), span(one.pipeline), span(one.tenant), span(shown_usage(one.amounts))] for one in found]
    return table(["day", "pipeline", "tenant", "used"], rows, screen)
