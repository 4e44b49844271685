"""What all errors share: `FlowqError`, and how a value or a URL may stand in a message."""

from __future__ import annotations

import re
from typing import Any

_SHOWN_CHARS_MAX = 80
# What Python shows of objects that say nothing of themselves helps nobody, and differs each time.
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+(?=>)")


def shown(value: object, chars_max: int = _SHOWN_CHARS_MAX) -> str:
    """A value as it may stand in a message: one line, escaped, at most 80 characters if not said otherwise."""
    try:
        text = repr(value)
    except Exception:  # a user's __repr__ may raise; the message must still be made
        text = f"<{type(value).__name__}>"
    text = _ADDRESS.sub("", text)
    text = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in text)
    return text if len(text) <= chars_max else text[: chars_max - 1] + "…"


def masked(url: str) -> str:
    """The URL without its password, as every message, log and report shows it."""
    url = re.sub(r"(://[^:/@?#]*):.*@", r"\1:***@", url)
    return re.sub(r"((?:password|secret|token)[a-z_]*=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)


class FlowqError(Exception):
    """Base of all errors of flowq.

    Attributes:
        problem: what happened, to what.
        remedy: what to do about it; may be empty.
    """

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    @property
    def code(self) -> str:
        """The stable machine-readable name of this error: the class name in snake case."""
        return re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(self).__name__).lower()

    def __str__(self) -> str:
        return f"{self.problem}; {self.remedy}" if self.remedy else self.problem

    def __reduce__(self) -> tuple[Any, ...]:
        return rebuilt(self)


def rebuilt(error: Exception) -> tuple[Any, ...]:
    """For `__reduce__`: an error is copied with its fields. Python would call its class with the parts of its message."""
    return _made, (type(error), error.args), error.__dict__


def _made(kind: type[Exception], parts: tuple[Any, ...]) -> Exception:
    return kind.__new__(kind, *parts)
