"""Lua scripts: an entry script names the fragments it needs; this puts them together, and the key words before them.

`-- Needs  records view …` in the entry's header lists fragments in the order they are put before it.
"""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources

import msgspec

from flowq.store.keys import lua_constants

_NEEDS = re.compile(r"^-- Needs +(.+)$", re.MULTILINE)


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
    text = "\n".join([*fragments, body])
    source = "\n".join([shebang, lua_constants(text), text])
    return Script(name, source, hashlib.sha1(source.encode()).hexdigest())


def _read(name: str) -> str:
    return resources.files("flowq.store").joinpath("scripts", f"{name}.lua").read_text("utf-8")
