"""Scripts as functions: the same text as a library of one function, which a server loads once (`FUNCTION LOAD`).

What fragments define is then made when the server loads it, instead of in each call, which is half of what a small call costs.
Variables of a fragment, which are lines such as `local views = {}` in small letters, hold for one call: they get their values
again when a call begins.
"""

from __future__ import annotations

import re
from functools import cache

import msgspec

from flowq.store.script_loader import Script

_VARIABLES = re.compile(r"^local ([a-z]\w*(?:, [a-z]\w*)*) = (.+?)(?:  --.*)?$")
# What fragments put functions into is no variable.
_TABLE_OF_FUNCTIONS = re.compile(r"^(?:function (\w+)\.|(\w+)\['\w*'\] = function)", re.MULTILINE)
# Lua allows a function 60 names from outside: so many lines of variables, which have two or three each.
_LINES_MAX = 20

# In one line what is before the fragments, so that the line number of an error is right.
_LIBRARY = """\
#!lua name={function}
local KEYS, ARGV {fragments}
local function main()
{entry}
end
local begins = {{{begins}}}
local function called(keys, args)
  KEYS, ARGV = keys, args
  for _, begin in ipairs(begins) do begin() end
  return main()
end
redis.register_function{{function_name = '{function}', callback = called, flags = {{{flags}}}}}
"""


class Library(msgspec.Struct, frozen=True):
    """A library, ready for the server.

    Attributes:
        function: the function's name, and the library's: with a digest of the text, so that versions do not meet.
        source: the text.
    """

    function: str
    source: str


@cache
def library(script: Script) -> Library:
    """The script as a library."""
    shebang, *lines = script.source.split("\n")
    holders = {name for found in _TABLE_OF_FUNCTIONS.findall(script.source) for name in found}
    values: list[str] = []
    for number, line in enumerate(lines[: script.body_at - 1]):
        found = _VARIABLES.match(line)
        if found is not None and found[1] not in holders:
            lines[number] = f"local {found[1]}"
            values.append(f"{found[1]} = {found[2]}")
    pages = [values[first : first + _LINES_MAX] for first in range(0, len(values), _LINES_MAX)]
    function = f"flowq_{script.name}_{script.sha[:12]}"
    source = _LIBRARY.format(
        function=function,
        fragments="\n".join(lines[: script.body_at - 1]),
        entry="\n".join(lines[script.body_at - 1 :]),
        begins=", ".join(f"function() {' '.join(page)} end" for page in pages),
        flags=", ".join(f"'{flag}'" for flag in shebang.partition("flags=")[2].split(",") if flag),
    )
    return Library(function, source)
