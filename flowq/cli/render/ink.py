"""Lines of styled text: measured, cropped, wrapped, and painted as ANSI. There is no markup in it that data could forge.

Not rich's Text: importing rich's console costs `flowq inspect` 60 ms, a quarter of what it may take in all. Only the live
view, which needs rich, loads it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from flowq.cli.render.clean import clean

# Characters known to take one cell each; anything else is measured with rich's tables, which take 14 ms to load.
_ONE_CELL = re.compile(
    "[ -~\u00a1-\u00ac\u00ae-\u02ff\u0370-\u03ff\u0400-\u0481\u2010-\u2027\u2190-\u21ff\u2200-\u22ff\u2500-\u25cf✔✘⊘]*"
)

_SGR: Final = {
    "": "", "ok": "32", "run": "36", "wait": "33", "bad": "31", "bad-bold": "1;31", "retry": "35", "dim": "2", "bold": "1",
    "head": "2", "key": "34",
}  # fmt: skip


class Span(NamedTuple):
    """A piece of a line in one style. Made by `span`, which cleans foreign text.

    Attributes:
        text: what is shown.
        style: a name of the palette; "" is the terminal's own.
    """

    text: str
    style: str = ""


Line = tuple[Span, ...]


def span(text: object, style: str = "") -> Span:
    """A span of anything: control characters in it become visible escapes."""
    return Span(clean(text), style)


def line(*parts: Span | str) -> Line:
    """A line of spans and plain strings."""
    return tuple(part if isinstance(part, Span) else span(part) for part in parts)


def cells(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii() or _ONE_CELL.fullmatch(text):
        return len(text)
    from rich.cells import cell_len

    return cell_len(text)


def width_of(parts: Iterable[Span]) -> int:
    """How many columns the line takes."""
    return sum(cells(part.text) for part in parts)


def crop(text: str, width: int, ellipsis: str) -> str:
    """The text in at most `width` columns; what does not fit is replaced by the ellipsis, visibly."""
    if cells(text) <= width:
        return text
    room = width - cells(ellipsis)
    if room <= 0:
        return ellipsis[:width]
    kept, used = 0, 0
    for char in text:
        used += cells(char)
        if used > room:
            break
        kept += 1
    return text[:kept] + ellipsis


def crop_middle(text: str, width: int, ellipsis: str) -> str:
    """Like `crop`, but keeps the beginning and the end: numbered names differ at their end."""
    if cells(text) <= width:
        return text
    tail = (width - cells(ellipsis)) // 3
    if tail < 1 or not text.isascii():
        return crop(text, width, ellipsis)
    return crop(text[:-tail], width - tail - cells(ellipsis), "") + ellipsis + text[-tail:]


def pad(text: str, width: int, *, right: bool = False) -> str:
    """The text filled with spaces to `width` columns."""
    fill = " " * max(0, width - cells(text))
    return fill + text if right else text + fill


def wrap(text: str, width: int) -> list[str]:
    """The text in rows of at most `width` columns, broken at spaces where there are any; all keep its indentation."""
    indent = text[: min(len(text) - len(text.lstrip(" ")), width // 2)]
    width = max(width - len(indent), 8)
    return [indent + row for row in _wrapped(text.lstrip(" "), width)]


def _wrapped(text: str, width: int) -> list[str]:
    rows: list[str] = []
    row = ""
    for word in text.split(" "):
        candidate = f"{row} {word}" if row else word
        if cells(candidate) <= width:
            row = candidate
            continue
        if row:
            rows.append(row)
        *full, row = _pieces(word, width)
        rows.extend(full)
    return [*rows, row] if row or not rows else rows


def _pieces(word: str, width: int) -> list[str]:
    """A word in pieces of at most `width` columns."""
    pieces = [""]
    for char in word:
        if cells(pieces[-1] + char) > width:
            pieces.append("")
        pieces[-1] += char
    return pieces


def flowing(items: Sequence[Line], width: int, gap: str, indent: str = "") -> list[Line]:
    """Items side by side, continued on the next line where the width ends."""
    rows: list[Line] = []
    row: Line = ()
    for item in items:
        extended = (*row, Span(gap, "dim"), *item) if row else (Span(indent), *item) if rows else item
        if row and width_of(extended) > width:
            rows.append(row)
            row = (Span(indent), *item)
        else:
            row = extended
    return [*rows, row] if row else rows


def painted(lines: Iterable[Line], colour: bool) -> str:
    """The lines as text for a terminal; trailing spaces are dropped."""
    return "".join(_painted_line(parts, colour) + "\n" for parts in lines)


def _painted_line(parts: Line, colour: bool) -> str:
    if not colour:
        return "".join(clean(part.text) for part in parts).rstrip()
    return "".join(
        f"\x1b[{_SGR[part.style]}m{clean(part.text)}\x1b[0m" if _SGR[part.style] and part.text.strip() else clean(part.text)
        for part in parts
    ).rstrip()
