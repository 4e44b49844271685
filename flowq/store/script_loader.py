"""Lua scripts: an entry script names the fragments it needs; this puts them together, and the key words before them.

`-- Needs  records view …` in the entry's header lists fragments in the order they are put before it. Constants, which are lines
such as `local READY, RUNNING = 'r', 'x'` in capitals, are written where they are used: Lua allows a script 200 local names.

The same text makes a library of one function (`library`): what fragments define is then made once, when the server loads it,
instead of in each call, which is half of what a small call costs. Variables of a fragment, which are lines such as
`local views = {}` in small letters, hold for one call: they get their values again when a call begins.
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
# A line of variables; and what fragments put functions into, which is no variable.
_VARIABLES = re.compile(r"^local ([a-z]\w*(?:, [a-z]\w*)*) = (.+)$")
_TABLE_OF_FUNCTIONS = re.compile(r"^(?:function )?(\w+)(?:\.\w+\(|\.\w+ = function|\['\w*'\] = function)", re.MULTILINE)
# Lua allows a function 60 names from outside.
_VARIABLES_MAX = 50


class Script(msgspec.Struct, frozen=True):
    """A whole script, ready for the server.

    Attributes:
        name: the entry's file name without `.lua`.
        source: the text.
        sha: its SHA-1 in hex, by which the server knows it.
    """

    name: str
    source: str
    sha: str


@cache
def script(name: str) -> Script:
    """The script of this name, put together from its fragments."""
    entry = _read(name)
    shebang, _, body = entry.partition("\n")
    needs = _NEEDS.search(entry)
    fragments = [_read(fragment) for fragment in (needs.group(1).split() if needs else ())]
    source = "\n".join([shebang, _with_constants("\n".join([lua_constants(), *fragments, body]))])
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())


class Library(msgspec.Struct, frozen=True):
    """A script as a library of one function, for `FUNCTION LOAD`.

    Attributes:
        function: the function's name, and the library's: with a digest of the text, so that versions do not meet.
        source: the text.
    """

    function: str
    source: str


@cache
def library(name: str) -> Library:
    """The script of this name as a library."""
    shebang, _, text = script(name).source.partition("\n")
    function = f"flowq_{name}_{script(name).sha[:12]}"
    body_at = text.count("\n") - _read(name).count("\n") + 1
    lines = text.split("\n")
    holders = set(_TABLE_OF_FUNCTIONS.findall(text))
    variables: list[re.Match[str]] = []
    for number, line in enumerate(lines[:body_at]):
        found = _VARIABLES.match(line)
        if found is not None and found[1] not in holders:
            variables.append(found)
            lines[number] = f"local {found[1]}"
    begins: list[str] = []
    for first in range(0, len(variables), _VARIABLES_MAX // 2):
        page = variables[first : first + _VARIABLES_MAX // 2]
        begins.append("function() " + " ".join(f"{found[1]} = {_code(found[2])}" for found in page) + " end")
    flags = ", ".join(f"'{flag}'" for flag in shebang.partition("flags=")[2].split(",") if flag)
    return Library(
        function,
        "\n".join(
            [
                f"#!lua name={function}",
                "local KEYS, ARGV " + lines[0],
                *lines[1:body_at],
                "local function main()",
                *lines[body_at:],
                "end",
                f"local begins = {{{', '.join(begins)}}}",
                "local function called(keys, args)",
                "  KEYS, ARGV = keys, args",
                "  for _, begin in ipairs(begins) do begin() end",
                "  return main()",
                "end",
                f"redis.register_function{{function_name = '{function}', callback = called, flags = {{{flags}}}}}",
            ]
        ),
    )


def _code(line: str) -> str:
    """A line of Lua without its comment."""
    return line.partition("  --")[0]


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
