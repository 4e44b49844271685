"""Lua scripts: an entry script names the fragments it needs; this puts them together, and the key words before them.

`-- Needs  records view …` in the entry's header lists fragments in the order they are put before it. Constants, which are lines
such as `local READY, RUNNING = 'r', 'x'` in capitals, are written where they are used: Lua allows a script 200 local names.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources

import msgspec

from flowq.store.keys import lua_constants

# A line of names in capitals and as many numbers, strings or names of other constants.
_NAME, _VALUE = r"[A-Z][A-Z0-9_]*", r"(?:\d+(?:\.\d+)?|'[^'\n,]*'|[A-Z][A-Z0-9_]*)"
_CONSTANTS = re.compile(rf"^local ({_NAME}(?:, {_NAME})*) = ({_VALUE}(?:, {_VALUE})*)$")
# Strings, comments and fields are passed over.
_WORD = re.compile(r"""--[^\n]*|'[^'\n]*'|"[^"\n]*"|(?<![.\w])[A-Z][A-Z0-9_]*\b""")
_NEEDS = re.compile(r"^-- Needs +(.+)$", re.MULTILINE)


class Script(msgspec.Struct, frozen=True):
    """A whole script, ready for the server.

    Attributes:
        name: the entry's file name without `.lua`.
        source: the text.
        sha: its SHA-1 in hex, by which the server knows it.
        body_at: on which line of the text its entry begins, behind its fragments; the first is 0.
    """

    name: str
    source: str
    sha: str
    body_at: int


@cache
def script(name: str) -> Script:
    """The script of this name, put together from its fragments."""
    entry = _read(name)
    shebang, _, body = entry.partition("\n")
    needs = _NEEDS.search(entry)
    fragments = [_read(fragment) for fragment in (needs.group(1).split() if needs else ())]
    head = "\n".join([shebang, lua_constants(), *fragments, ""])
    source = _with_constants(head + body)
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest(), head.count("\n"))


def _with_constants(text: str) -> str:
    """The Lua text with the constants in their places; their lines are left empty, so that an error's line number is right."""
    values: dict[str, str] = {}
    lines: list[str] = []
    for line in text.split("\n"):
        found = _CONSTANTS.match(line)
        if found is None:
            lines.append(_WORD.sub(lambda word: values.get(word[0], word[0]), line))
            continue
        for name, value in zip(found[1].split(", "), found[2].split(", "), strict=True):
            literal = values.get(value, value)
            if values.setdefault(name, literal) != literal:
                raise ValueError(f"{name} is {values[name]} and {literal} in one script")
        lines.append("")
    return "\n".join(lines)


def _read(name: str) -> str:
    return resources.files("flowq.store").joinpath("scripts", f"{name}.lua").read_text("utf-8")
