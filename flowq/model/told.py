"""What users' code tells of itself, as plain numbers and text that can be stored, whatever library they come from. Pure."""

from __future__ import annotations

import operator


def as_number(value: object) -> int | float | None:
    """The value as a plain number, of numpy and the like too; None: it is no number, or no single one."""
    if isinstance(value, str | bytes | bytearray | bool):  # float() would read text, and count True as 1
        return None
    for read in (operator.index, float):
        try:
            return read(value)  # type: ignore[arg-type] — that it may be none is the question
        except Exception:  # a library's number raises what it likes, say one that is an array
            continue
    return None


def as_text(value: object, chars_max: int) -> str:
    """The value as text of at most so many characters; None: none. What is no Unicode, as of file names, is escaped."""
    text = "" if value is None else str(value)[:chars_max]
    return text.encode("utf-8", "backslashreplace").decode()[:chars_max]
