"""The sanitiser: whatever users, stages and programs put into a flow becomes text that can't steer a terminal.

Ids, messages, tracebacks, worker names and results are foreign input. An escape sequence in one of them could hide lines,
change the window's title or write to the clipboard; rich's own `escape` lets ESC and the C1 codes through.
"""

from __future__ import annotations

import unicodedata


def clean(text: object) -> str:
    """One line without control, direction or invisible characters; they are shown as escapes such as `\\x1b`."""
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    return "".join(char if char.isprintable() else _visible(char) for char in line)


def clean_lines(text: object) -> list[str]:
    """A block, such as a traceback, as clean lines; tabs become spaces."""
    return [clean(line.expandtabs(4)) for line in str(text).split("\n")]


def _visible(char: str) -> str:
    # str.isprintable() is false for exactly the categories C? and Z?, but for the plain space.
    if unicodedata.category(char) == "Zs":
        return " "
    code = ord(char)
    if code == 0x0A:
        return "\\n"
    if code == 0x09:
        return "\\t"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
