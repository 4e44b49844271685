"""`Screen`: what the other end of stdout can show: how wide it is, whether it has colours, a cursor and Unicode."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple, TextIO

# Narrower terminals get lines of this width, which they break themselves: no table reads well below it.
WIDTH_MIN: Final = 40
WIDTH_MAX: Final = 160
# For pipes and files: wide enough for a log, and the same on every machine.
WIDTH_WITHOUT_TERMINAL: Final = 100

_GLYPHS: Final = "✔✘▶·○↻⊘–‖◆…→├└│↓█░▓╌×"


class Screen(NamedTuple):
    """What the output can show.

    Attributes:
        width: columns.
        unicode: whether the encoding has the glyphs; else ASCII stands in.
        colour: whether to send colours.
        is_terminal: whether it is a terminal with a cursor, so that a live view makes sense.
    """

    width: int = WIDTH_WITHOUT_TERMINAL
    unicode: bool = True
    colour: bool = False
    is_terminal: bool = False

    @property
    def ellipsis(self) -> str:
        """What stands for text that did not fit."""
        return "…" if self.unicode else "..."

    @property
    def dot(self) -> str:
        """What stands between items of a line."""
        return " · " if self.unicode else " | "


def screen_of(stream: TextIO, color: str = "auto", environment: Mapping[str, str] | None = None) -> Screen:
    """The screen behind a stream. `color` is the option of that name; NO_COLOR, FORCE_COLOR, TERM and COLUMNS are honoured."""
    environment = os.environ if environment is None else environment
    is_terminal = _isatty(stream)
    is_dumb = environment.get("TERM", "") == "dumb"
    return Screen(
        width=_width(stream, is_terminal, environment),
        unicode=_has_glyphs(stream),
        colour=_has_colour(color, is_terminal and not is_dumb, environment),
        is_terminal=is_terminal and not is_dumb,
    )


def _isatty(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:  # closed
        return False


def _width(stream: TextIO, is_terminal: bool, environment: Mapping[str, str]) -> int:
    columns = environment.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() and int(columns) > 0 else 0
    if not width and is_terminal:
        try:
            width = os.get_terminal_size(stream.fileno()).columns
        except (OSError, ValueError):
            width = 80
    return min(max(width or WIDTH_WITHOUT_TERMINAL, WIDTH_MIN), WIDTH_MAX)


def _has_colour(color: str, could: bool, environment: Mapping[str, str]) -> bool:
    if color != "auto":
        return color == "always"
    if environment.get("NO_COLOR"):
        return False
    return could or bool(environment.get("FORCE_COLOR"))


def _has_glyphs(stream: TextIO) -> bool:
    try:
        _GLYPHS.encode(stream.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
