"""Plain tables: `list`, `doctor`, `config`. Columns take what they need; the last one is continued below, never cropped."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.cli.render.ink import Line, Span, cells, pad, span, width_of, wrap
from flowq.cli.render.screen import Screen

# Below this width of the last column, rows are shown as blocks of two lines instead.
_LAST_MIN = 16


def table(head: Sequence[str], rows: Sequence[Sequence[Span]], screen: Screen) -> list[Line]:
    """Rows below a dim head. All columns but the last keep their natural width; the last is wrapped under itself."""
    sizes = [
        max(cells(label), *(cells(row[index].text) for row in rows)) if rows else cells(label) for index, label in enumerate(head)
    ]
    used = sum(size + 2 for size in sizes[:-1])
    room = screen.width - used
    if room < min(_LAST_MIN, sizes[-1]):
        return [block_line for row in rows for block_line in _block(head, row, screen)]
    lines: list[Line] = [tuple(Span(pad(label, size) + "  ", "head") for label, size in zip(head, sizes, strict=True))]
    for row in rows:
        front = tuple(Span(pad(cell.text, size) + "  ", cell.style) for cell, size in zip(row[:-1], sizes[:-1], strict=True))
        pieces = wrap(row[-1].text, room)
        lines.append((*front, Span(pieces[0], row[-1].style)))
        lines += [(Span(" " * used), Span(piece, row[-1].style)) for piece in pieces[1:]]
    return lines


def _block(head: Sequence[str], row: Sequence[Span], screen: Screen) -> list[Line]:
    """One row as lines of its own, for screens that are too narrow for the table."""
    lines: list[Line] = []
    current: Line = ()
    for label, cell in zip(head, row, strict=True):
        if not cell.text.strip():
            continue
        item = (span(f"{label} ", "dim"), cell) if label.strip() else (cell,)
        if current and width_of(current) + 2 + width_of(item) > screen.width:
            lines.append(current)
            current = (Span("  "),)
        current = (*current, Span("  "), *item) if current else item
    return [*lines, current]
