"""Plants a bug: replaces a text in a Lua fragment or in a Python function, for as long as a context lasts.

A changed script has another digest, so the server that others use knows both. A text that occurs no longer, or twice, is an
error: a bug that is not planted would be caught by nobody.
"""

from __future__ import annotations

import contextlib
import importlib
import inspect
import textwrap
from collections.abc import Iterator
from typing import Any

import msgspec

from flowq.store import script_loader


class Bug(msgspec.Struct, frozen=True):
    """One planted bug.

    Attributes:
        breaks: what it breaks, as a sentence.
        where: `release.lua`, or `flowq.model.restart:restart`.
        text: what is replaced.
        instead: by what.
    """

    breaks: str
    where: str
    text: str
    instead: str


class NotPlanted(Exception):
    """The text is not there (any more): the list of bugs has to follow the code."""

    def __init__(self, bug: Bug, count: int) -> None:
        super().__init__(f"{bug.breaks!r} can't be planted: in {bug.where} this occurs {count} times, not once: {bug.text}")


@contextlib.contextmanager
def planted(bug: Bug) -> Iterator[None]:
    """The code has this bug meanwhile."""
    with _in_script(bug) if bug.where.endswith(".lua") else _in_function(bug):
        yield


def _replaced(bug: Bug, source: str) -> str:
    if (count := source.count(bug.text)) != 1:
        raise NotPlanted(bug, count)
    return source.replace(bug.text, bug.instead)


@contextlib.contextmanager
def _in_script(bug: Bug) -> Iterator[None]:
    read = script_loader._read
    fragment = bug.where.removesuffix(".lua")
    changed = _replaced(bug, read(fragment))
    script_loader._read = lambda name: changed if name == fragment else read(name)
    script_loader.script.cache_clear()
    try:
        yield
    finally:
        script_loader._read = read
        script_loader.script.cache_clear()


@contextlib.contextmanager
def _in_function(bug: Bug) -> Iterator[None]:
    """In its code object, so that it is changed wherever it was imported."""
    module_name, _, path = bug.where.partition(":")
    module = importlib.import_module(module_name)
    function: Any = module
    for name in path.split("."):
        function = getattr(function, name)
    names: dict[str, Any] = dict(vars(module))
    source = _replaced(bug, textwrap.dedent(inspect.getsource(function)))
    exec("from __future__ import annotations\n" + source, names)
    code = function.__code__
    function.__code__ = names[path.rpartition(".")[2]].__code__
    try:
        yield
    finally:
        function.__code__ = code
