"""A document as a picture: a panel for each main figure, a bar for each contestant, the range of the rounds on it. Plain SVG."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

from benchmarks.document import rows_of
from benchmarks.figures import Row, Spread
from benchmarks.report import number


class Panel(NamedTuple):
    """One figure in the picture."""

    measure: str
    figure: str
    title: str


PANELS = (
    Panel("chains", "run, at its best", "Chains of four: stages run in a second"),
    Panel("chains", "submit and run", "Chains of four: flows added and run in a second"),
    Panel("chains", "submit", "Chains of four: flows added in a second"),
    Panel("latency", "p50", "One chain alone, milliseconds, median"),
    Panel("weight", "waiting", "Memory of a waiting chain, bytes"),
    Panel("fan", "submit and run", "One, many beside each other, one: stages added and run in a second"),
)

_PANEL_WIDTH, _COLUMNS, _MARGIN = 440, 2, 24
_ROW, _HEAD, _NAMES, _VALUES = 20, 40, 110, 84
_HUE = {"flowq": "#d9480f", "BullMQ": "#1c7ed6"}
_OTHERS = "#868e96"


def plot(made: Mapping[str, Any]) -> str:
    """The SVG. Its colours can be read on light and on dark pages."""
    found = {(row.measure, row.name): row for row in rows_of(made)}
    names = [each["name"] for each in made["contestants"]]
    panels = [(panel, found[panel.measure, panel.figure]) for panel in PANELS if (panel.measure, panel.figure) in found]
    height = _HEAD + _ROW * len(names) + _MARGIN
    rows = -(-len(panels) // _COLUMNS)
    width = _MARGIN + _COLUMNS * (_PANEL_WIDTH + _MARGIN)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {rows * height + 2 * _MARGIN}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="{_OTHERS}">',
        f"<title>flowq beside its peers: {escape(made['measured_at'][:10])}, commit {escape(made['commit'][:12])}</title>",
    ]
    for place, (panel, row) in enumerate(panels):
        left = _MARGIN + place % _COLUMNS * (_PANEL_WIDTH + _MARGIN)
        lines.append(f'<g transform="translate({left} {_MARGIN + place // _COLUMNS * height})">')
        lines += [*_panel(panel, row, names), "</g>"]
    foot = f"medians of {made['rounds']} rounds, least to most; {made['machine']['cpus']} cores; {made['server']['name']} "
    lines.append(_text(_MARGIN, rows * height + _MARGIN, foot + made["server"]["version"]))
    return "\n".join([*lines, "</svg>", ""])


def _panel(panel: Panel, row: Row, names: list[str]) -> Iterator[str]:
    yield _text(0, 12, panel.title, 'font-weight="bold"')
    yield _text(0, 28, "more is better" if row.is_rate else "less is better", 'font-size="11"')
    spreads = {name: found for name in names if (found := row.spread(name))}
    longest = max((found.most for found in spreads.values()), default=1.0) or 1.0
    for place, (name, found) in enumerate(sorted(spreads.items(), key=lambda item: item[1].median, reverse=row.is_rate)):
        yield from _bar(name, found, _HEAD + place * _ROW, (_PANEL_WIDTH - _NAMES - _VALUES) / longest)


def _bar(name: str, found: Spread, top: int, scale: float) -> Iterator[str]:
    colour, middle = _HUE.get(name.partition(" ")[0], _OTHERS), top + _ROW / 2 - 1
    yield _text(_NAMES - 8, middle + 4, name, f'text-anchor="end" fill="{colour}"')
    shape = f'y="{top + 2}" width="{found.median * scale:.1f}" height="{_ROW - 6}"'
    yield f'<rect x="{_NAMES}" {shape} fill="{colour}" opacity="0.75"/>'
    least, most = _NAMES + found.least * scale, _NAMES + found.most * scale
    yield f'<path d="M{least:.1f} {middle}H{most:.1f}" stroke="{_OTHERS}" stroke-width="2"/>'
    yield _text(max(most, _NAMES + found.median * scale) + 6, middle + 4, number(found.median))


def _text(x: float, y: float, words: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'
