"""`short_video.py:31`: which line of the user's code a message is about."""

from __future__ import annotations

import sys
import traceback
from os.path import basename, dirname, sep
from types import TracebackType

_PACKAGE = dirname(__file__)
# Code that the user did not write, and can't correct: flowq, the standard library, what was installed.
_NOT_THEIRS = (dirname(_PACKAGE) + sep, dirname(traceback.__file__) + sep, "<frozen ")
_INSTALLED = ("site-packages", "dist-packages")


def user_line() -> str:
    """The user's line that is running: the innermost that is theirs, else the one that called this package."""
    frame = sys._getframe(1)  # pyright: ignore[reportPrivateUsage]
    lines = [(frame.f_code.co_filename, number) for frame, number in traceback.walk_stack(frame)]
    outside = [line for line in lines if dirname(line[0]) != _PACKAGE]
    return _shown(next((line for line in outside if _is_theirs(line[0])), outside[0]))


def line_of(error: BaseException, trace: TracebackType | None) -> str:
    """The user's line that a traceback leads to: the innermost that is theirs, else where it begins.

    A file that can't be compiled has no frame; the error itself knows the line.
    """
    if isinstance(error, SyntaxError) and error.filename and not error.filename.startswith("<"):
        return _shown((error.filename, error.lineno or 0))
    lines = [(frame.f_code.co_filename, number) for frame, number in traceback.walk_tb(trace)]
    theirs = [line for line in lines if _is_theirs(line[0])]
    return _shown(theirs[-1] if theirs else lines[0] if lines else ("?", 0))


def _is_theirs(filename: str) -> bool:
    return not filename.startswith(_NOT_THEIRS) and not any(folder in filename for folder in _INSTALLED)


def _shown(line: tuple[str, int]) -> str:
    return f"{basename(line[0])}:{line[1]}"
