"""A picture as SVG that stands alone: no fonts, scripts or links from elsewhere. Layers from left to right."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

from flowq.cli.render.ink import cells, crop_middle
from flowq.cli.render.mermaid import COLOURS
from flowq.cli.render.picture import Arrow, Box, Picture

_BOX_HEIGHT: Final = 48
_BOX_WIDTH_MIN: Final = 120
_TITLE_CELLS_MAX: Final = 34
_CHAR: Final = 8
_GAP_X: Final = 56
_GAP_Y: Final = 22
_MARGIN: Final = 24
_HEAD: Final = 28


def svg(picture: Picture) -> str:
    """The drawing. Boxes of one layer stand below each other, in the order that keeps arrows short."""
    layers = _ordered(picture)
    widths = [max((_width(picture.boxes[box]) for box in layer), default=0) for layer in layers]
    tallest = max((len(layer) for layer in layers), default=0)
    height = _HEAD + 2 * _MARGIN + tallest * (_BOX_HEIGHT + _GAP_Y)
    place: dict[int, tuple[int, int, int]] = {}
    x = _MARGIN
    for layer, width in zip(layers, widths, strict=True):
        top = _HEAD + _MARGIN + (tallest - len(layer)) * (_BOX_HEIGHT + _GAP_Y) // 2
        for position, box in enumerate(layer):
            place[box] = (x, top + position * (_BOX_HEIGHT + _GAP_Y), width)
        x += width + _GAP_X
    total = max(x - _GAP_X + _MARGIN, _MARGIN * 2 + _CHAR * cells(picture.title))
    body = [_arrow(place[arrow.tail], place[arrow.head]) for arrow in picture.arrows]
    body += [_box(picture.boxes[box], place[box]) for box in place]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {height}" width="{total}" height="{height}" '
        f'font-family="ui-monospace, monospace" font-size="13">\n<title>{escape(picture.title)}</title>\n'
        f'<rect width="{total}" height="{height}" fill="#ffffff"/>\n'
        f'<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        f'<path d="M0 0 8 4 0 8z" fill="#555"/></marker></defs>\n'
        f'<text x="{_MARGIN}" y="{_HEAD}" font-weight="bold" fill="#111">{escape(picture.title)}</text>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _ordered(picture: Picture) -> list[list[int]]:
    """The layers, each sorted by the mean place of what its boxes wait for (one barycentre sweep)."""
    layers: list[list[int]] = [[] for _ in range(max((box.layer for box in picture.boxes), default=-1) + 1)]
    for position, box in enumerate(picture.boxes):
        layers[box.layer].append(position)
    before = _before(picture.arrows)
    row: dict[int, float] = {}
    for layer in layers:
        for position, box in enumerate(layer):
            tails = [row[tail] for tail in before.get(box, ()) if tail in row]
            row[box] = sum(tails) / len(tails) if tails else float(position)
        layer.sort(key=lambda box: row[box])
        for position, box in enumerate(layer):
            row[box] = position - len(layer) / 2
    return layers


def _before(arrows: Sequence[Arrow]) -> dict[int, list[int]]:
    before: dict[int, list[int]] = {}
    for arrow in arrows:
        before.setdefault(arrow.head, []).append(arrow.tail)
    return before


def _width(box: Box) -> int:
    longest = max(min(cells(box.title), _TITLE_CELLS_MAX), min(cells(box.detail), _TITLE_CELLS_MAX))
    return max(_BOX_WIDTH_MIN, longest * _CHAR + 24)


def _box(box: Box, place: tuple[int, int, int]) -> str:
    x, y, width = place
    fill = COLOURS.get(box.state, COLOURS["blocked"])
    stroke = 3 if box.is_critical else 1
    title, detail = (escape(crop_middle(text, _TITLE_CELLS_MAX, "…")) for text in (box.title, box.detail))
    return (
        f'<g class="{escape(box.state)}"><title>{escape(box.title)}: {escape(box.detail)}</title>'
        f'<rect x="{x}" y="{y}" width="{width}" height="{_BOX_HEIGHT}" rx="6" '
        f'fill="{fill}" stroke="#555" stroke-width="{stroke}"/>'
        f'<text x="{x + 12}" y="{y + 20}" font-weight="bold" fill="#111">{title}</text>'
        f'<text x="{x + 12}" y="{y + 37}" fill="#444">{detail}</text></g>'
    )


def _arrow(tail: tuple[int, int, int], head: tuple[int, int, int]) -> str:
    x1, y1 = tail[0] + tail[2], tail[1] + _BOX_HEIGHT // 2
    x2, y2 = head[0], head[1] + _BOX_HEIGHT // 2
    bend = max(_GAP_X // 2, (x2 - x1) // 3)
    return f'<path d="M{x1} {y1}C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}" fill="none" stroke="#555" marker-end="url(#tip)"/>'
