"""How scripts are called: those that each stage and each flow calls as functions, which costs half as much; others, and all
where a server has no functions or this user may not load them, by their digest."""

from __future__ import annotations

import logging
from typing import Any

from redis import exceptions as refused

from flowq.store.script_library import Library, library
from flowq.store.script_loader import script

log = logging.getLogger("flowq.store")

_AS_FUNCTIONS = frozenset({"exchange", "submit"})


class ScriptCaller:
    """Calls scripts over a client, and loads what the server does not know (any more).

    Args:
        client: of the client library, whose types are incomplete.
    """

    def __init__(self, client: Any) -> None:
        self._client = client
        self._has_functions = True

    async def call(self, name: str, tag: str, args: tuple[Any, ...]) -> Any:
        """Calls the script of this name on the partition of `tag`, once."""
        wanted = script(name)
        if name in _AS_FUNCTIONS and self._has_functions:
            try:
                return await self._call_function(library(wanted), tag, args)
            except _NoFunction as error:
                log.debug("`%s` is called as a script: %s", name, error)
                self._has_functions = error.may_pass
        try:
            return await self._client.execute_command("EVALSHA", wanted.sha, 1, tag, *args)
        except refused.NoScriptError:
            # The whole text, in one command: loaded first, it could be forgotten again before it is called.
            return await self._client.execute_command("EVAL", wanted.source, 1, tag, *args)

    async def _call_function(self, wanted: Library, tag: str, args: tuple[Any, ...]) -> Any:
        for _ in range(2):
            try:
                return await self._client.execute_command("FCALL", wanted.function, 1, tag, *args)
            except refused.ResponseError as error:
                if isinstance(error, refused.NoPermissionError) or "unknown command" in str(error).lower():
                    raise _NoFunction(error) from error
                if "Function not found" not in str(error):
                    raise
            try:
                await self._client.execute_command("FUNCTION", "LOAD", wanted.source)
            except refused.ResponseError as error:
                if "already exists" not in str(error):  # another client was first
                    raise _NoFunction(error) from error
        raise _NoFunction(refused.OutOfMemoryError("it was forgotten as soon as it was loaded"))


class _NoFunction(Exception):
    """The server did not let us load a function, or call it."""

    @property
    def may_pass(self) -> bool:
        """Whether it may another time: a full server is emptied, a replica becomes the primary."""
        return not isinstance(self.args[0], refused.NoPermissionError) and "unknown" not in str(self).lower()
