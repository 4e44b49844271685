"""How scripts are called: those that each stage and each flow calls as functions, which costs half as much; others, and all
where a server has no functions or this user may not load them, by their digest."""

from __future__ import annotations

import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

from redis import exceptions as refused

from flowq.store.pool import Command
from flowq.store.script_library import Library, library
from flowq.store.script_loader import script

log = logging.getLogger("flowq.store")

_AS_FUNCTIONS = frozenset({"exchange", "submit"})
# How answers begin that are about the server's state, such as `MISCONF …`: the text of the library is not what is wrong.
_CODE = re.compile(r"-?[A-Z]+ ")
# What servers said of libraries that they can't use: told once in a process, however many connections it has.
_told: set[str] = set()


class ScriptCaller:
    """Calls scripts, and loads what the server does not know (any more).

    Args:
        ask: sends one command.
    """

    def __init__(self, ask: Callable[[Command], Awaitable[Any]]) -> None:
        self._ask = ask
        self._has_functions = True

    async def call(self, name: str, tag: str, args: tuple[Any, ...]) -> Any:
        """Calls the script of this name on the partition of `tag`, once."""
        wanted = script(name)
        if name in _AS_FUNCTIONS and self._has_functions:
            try:
                return await self._call_function(library(wanted), tag, args)
            except NoFunction as error:
                self._has_functions = error.may_pass
                self._tell(name, error)
        try:
            return await self._ask(("EVALSHA", wanted.sha, 1, tag, *args))
        except refused.NoScriptError:
            # The whole text, in one command: loaded first, it could be forgotten again before it is called.
            return await self._ask(("EVAL", wanted.source, 1, tag, *args))

    async def try_functions(self) -> None:
        """Loads all functions, as the calls do that need them. Raises NoFunction."""
        for name in sorted(_AS_FUNCTIONS):
            await self._load(library(script(name)))
        try:
            await self._ask(("FCALL", "flowq_no_function", 0))
        except refused.ResponseError as error:
            if "Function not found" not in str(error):
                raise NoFunction(error) from error

    async def _call_function(self, wanted: Library, tag: str, args: tuple[Any, ...]) -> Any:
        for _ in range(2):
            try:
                return await self._ask(("FCALL", wanted.function, 1, tag, *args))
            except refused.ResponseError as error:
                if isinstance(error, refused.NoPermissionError) or "unknown command" in str(error).lower():
                    raise NoFunction(error) from error
                if "Function not found" not in str(error):
                    raise
            await self._load(wanted)
        raise NoFunction(refused.OutOfMemoryError("it was forgotten as soon as it was loaded"))

    async def _load(self, wanted: Library) -> None:
        try:
            await self._ask(("FUNCTION", "LOAD", wanted.source))
        except refused.ResponseError as error:
            if "already exists" not in str(error):  # another client was first
                raise NoFunction(error) from error

    def _tell(self, name: str, error: NoFunction) -> None:
        if not error.is_broken:
            log.debug("`%s` is called as a script: %s", name, error)
        elif str(error) not in _told:
            _told.add(str(error))
            log.warning(
                "the server can't load `%s` as a function, so it is called as a script, which costs the server up to twice "
                "the time; please report this with the name and version of the server: %s", name, error,
            )  # fmt: skip


class NoFunction(Exception):
    """The server did not let us load a function, or call it."""

    @property
    def is_broken(self) -> bool:
        """Whether the server can't make anything of the text; else it is too old, or this user may not, or it may pass."""
        return type(self.args[0]) is refused.ResponseError and not self._is_unknown and not self._is_of_now

    @property
    def may_pass(self) -> bool:
        """Whether it may another time: a full server is emptied, a replica becomes the primary."""
        return not self.is_broken and not self._is_unknown and not isinstance(self.args[0], refused.NoPermissionError)

    @property
    def _is_unknown(self) -> bool:
        return str(self).lower().startswith("unknown ")

    @property
    def _is_of_now(self) -> bool:
        return _CODE.match(str(self)) is not None or "timeout" in str(self)
