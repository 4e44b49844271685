"""`LogLine`: what a stage logged, as it is shown; and how lines are kept in one text. Pure."""

from __future__ import annotations

import msgspec

_MESSAGE_CHARS_MAX = 2_000


class LogLine(msgspec.Struct, frozen=True, kw_only=True):
    """One line that a stage logged.

    Attributes:
        stage: the stage's name in the flow.
        attempt: the attempt that logged it.
        at: when, by the worker's clock: milliseconds since 1970.
        level: `DEBUG`, `INFO`, `WARNING`, `ERROR` or `CRITICAL`, or what the program called it.
        text: the message; several lines where it had them.
    """

    stage: str
    attempt: int
    at: int
    level: str
    text: str


def written(at: int, attempt: int, level: str, text: str) -> str:
    """One entry of the text; lines of a message after its first begin with a tab."""
    shown = text[:_MESSAGE_CHARS_MAX].encode("utf-8", "backslashreplace").decode()
    return f"{at} {attempt} {level.split(' ')[0] or '-'} " + "\n\t".join(shown.splitlines() or [""]) + "\n"


def read(stage: str, text: str) -> list[LogLine]:
    """The entries of a text; what was cut off at its beginning is left out."""
    lines: list[LogLine] = []
    for entry in text.replace("\n\t", "\r").split("\n"):
        parts = entry.split(" ", 3)
        if len(parts) == 4 and parts[0].isdecimal() and parts[1].isdecimal():
            at, attempt, level, message = parts
            lines.append(LogLine(stage=stage, attempt=int(attempt), at=int(at), level=level, text=message.replace("\r", "\n")))
    return lines
