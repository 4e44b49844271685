"""The way to the server, or to the servers of a cluster; and the one owner of retries.

redis-py repeats commands by itself (0, 3 or 10 times, by version); here that is off. Every call of flowq may be
repeated safely, so a call whose answer was lost is simply sent again until `patience` runs out.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable
from typing import Any

from redis import exceptions as refused

from flowq.errors import (
    CorruptState,
    FlowqError,
    InvalidValue,
    NotARedisServer,
    ServerForbids,
    ServerIsFull,
    ServerIsReplica,
    ServerReadOnly,
    ServerRefusedLogin,
    ServerUnreachable,
    masked,
)
from flowq.store.addresses import address_of
from flowq.store.keys import ENDED_CHANNEL, WAKE_CHANNEL
from flowq.store.nodes import NodeLost
from flowq.store.outage import what_the_system_said
from flowq.store.script_caller import NoFunction
from flowq.store.script_loader import script
from flowq.store.server import Server
from flowq.store.topology import linked

log = logging.getLogger("flowq.store")

_PAUSE_SECONDS_MAX = 1.0
# So many that a primary which is added gets some, and so few that calls stay large: each partition is talked to on its own.
_PARTITIONS_PER_PRIMARY = 4
# What may pass by itself: for everybody; and for who can wait for a failover, a freed disk, a password put right.
_PASSING = (ServerUnreachable,)
_PASSING_IN_THE_LONG_RUN = (ServerUnreachable, ServerIsReplica, ServerReadOnly, ServerRefusedLogin)
_LONG_SECONDS = 600.0
# Answers of a server, or of a part of a cluster, that will serve us later: the script before ours runs, data are being loaded,
# a failover is under way, a slot moves. The client library, by version, knows some of the words and then cuts them off.
_PASSING_ANSWERS = (refused.BusyLoadingError, refused.ClusterDownError, refused.TryAgainError, refused.AskError)
# "caused error": how it introduces the answer to one of several commands.
_PASSING_WORDS = re.compile(r"(?:^|caused error: \W*)(?:BUSY|LOADING|CLUSTERDOWN|MASTERDOWN|NOREPLICAS|TRYAGAIN)\b")
# What is forbidden, if not the command itself: "No permissions to access a key", "can't access at least one of the keys".
_WHAT_IS_FORBIDDEN = re.compile(r" (?:a|the) (key|channel)s?\b")
# The client library wraps some refusals of a login so that only their text is left.
_OF_LOGIN = ("noauth", "wrongpass", "invalid password", "invalid username", "authentication required", "without any password")


class Connection:
    """A fixed number of connections to one server, or to each of several.

    Args:
        url: of a server, a cluster or Sentinels: see `addresses.py`.
        name: shown in the server's CLIENT LIST.
        size: how many connections at most, to each server; a call waits when all are in use.
        patience: seconds for which an unreachable server is asked again.

    Raises:
        InvalidValue: the URL is none of these.
    """

    def __init__(self, url: str, *, name: str = "flowq", size: int = 3, patience: float = 10.0) -> None:
        address = address_of(url)
        self.url = url
        self.patience = patience
        self.is_cluster = address.kind == "cluster"
        # Nodes of which the log has told that they do not answer; empty text: the server, or nobody in particular.
        self._troubles: set[str] = set()
        self._may_write = False
        self._link = linked(address, name, size)

    async def run(self, name: str, tag: str, *args: Any, patience: float | None = None) -> Any:
        """Runs a script on the partition of `tag`; loads it where the server does not know it (any more).

        Raises:
            ServerForbids: before the first script, see `refuse_without_rights`.
        """
        if not self._may_write:
            await self.refuse_without_rights(tag, patience)

        async def once() -> Any:
            return await self._link.run(name, tag, args)

        return await self._patiently(once, patience)

    async def refuse_without_rights(self, tag: str, patience: float | None = None) -> None:
        """Tries all that flowq asks of a server, once, in one round trip; `run` does so before its first script.

        A script that is refused a command half-way is not rolled back, so it must not begin.

        Raises:
            ServerForbids: names everything that this user may not.
        """
        if self._may_write:
            return
        trial = script("trial")
        # EVAL first: then the server knows the script. Nobody sends to these channels, so nothing comes between the answers.
        asked: list[tuple[Any, ...]] = [("EVAL", trial.source, 1, tag), ("EVALSHA", trial.sha, 1, tag)]
        for channel in (WAKE_CHANNEL, ENDED_CHANNEL):
            asked += [("SSUBSCRIBE", f"{tag}{channel}?"), ("SUNSUBSCRIBE", f"{tag}{channel}?")]

        async def once() -> list[Any]:
            answers = await self._link.several(asked)
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(answer, (refused.NoPermissionError, refused.NoScriptError)):
                    raise answer
            return answers

        answers = await self._patiently(once, patience)
        refusals: list[tuple[str, str]] = []
        for args, answer in zip(asked, answers, strict=True):
            if isinstance(answer, refused.NoPermissionError):
                refusals.append((args[0], str(answer)))
            elif args[-1] == tag and not isinstance(answer, Exception):
                refusals += [(name.decode(), text.decode()) for name, text in zip(answer[::2], answer[1::2], strict=True)]
        if refusals:
            # Whoever may not SUNSUBSCRIBE leaves a connection that can do nothing else any more.
            await (await self._link.server_of(tag)).disconnect()
            raise ServerForbids(self.url, _forbidden(tag, refusals))
        self._may_write = True

    async def why_no_functions(self) -> NoFunction | None:
        """Why this server's functions can't be used; None: they can."""

        async def once() -> NoFunction | None:
            try:
                for server in await self._link.all_servers():
                    await server.try_functions()
            except NoFunction as error:
                return error
            return None

        return await self._patiently(once, None)

    async def command(self, *args: Any, patience: float | None = None) -> Any:
        """Runs one command that may be repeated."""

        async def once() -> Any:
            return await self._link.one(args)

        return await self._patiently(once, patience)

    async def commands(self, *many: tuple[Any, ...], patience: float | None = None) -> list[Any]:
        """Runs several commands, each of which may be repeated, in one round trip to each server."""
        if not many:
            return []

        async def once() -> list[Any]:
            answers = await self._link.several(many)
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
            return answers

        return await self._patiently(once, patience)

    async def readable(self, *many: tuple[Any, ...]) -> list[Any]:
        """As `commands`; None is the answer where a key is of another type, which spoils none of the others."""
        if not many:
            return []

        async def once() -> list[Any]:
            answers = await self._link.several(many)
            for answer in answers:
                if isinstance(answer, Exception) and not isinstance(typed(self.url, answer), CorruptState):
                    raise answer
            return [None if isinstance(answer, Exception) else answer for answer in answers]

        return await self._patiently(once, None)

    async def servers(self) -> list[Server]:
        """Every server that work is kept on: one, or the primaries of a cluster."""
        return await self._patiently(self._link.all_servers, None)

    async def partitions(self) -> int:
        """Over how many partitions the flows of a new namespace are spread here."""
        return _PARTITIONS_PER_PRIMARY * len(await self.servers()) if self.is_cluster else 1

    async def on_each(self, *args: Any) -> list[Any]:
        """Asks every server the same."""

        async def once() -> list[Any]:
            return [await server.one(args) for server in await self._link.all_servers()]

        return await self._patiently(once, None)

    async def server_of(self, tag: str) -> Server:
        """The server that has the partition of `tag`."""
        return await self._link.server_of(tag)

    async def refresh(self) -> None:
        """Looks anew which server has which partition."""
        await self._link.refresh()

    async def close(self) -> None:
        """Closes all connections."""
        await self._link.close()

    async def _patiently(self, once: Callable[[], Awaitable[Any]], patience: float | None) -> Any:
        began_at = time.monotonic()
        pause = 0.02
        met: set[str] = set()
        task = asyncio.current_task()
        # Before Python 3.12 `asyncio.wait_for`, which the client uses, swallows a cancel that comes with an answer or error.
        cancels = task.cancelling() if task is not None else 0
        while True:
            try:
                answer = await once()
            except (refused.RedisError, OSError) as error:
                if task is not None and task.cancelling() > cancels:
                    raise asyncio.CancelledError from error
                known = typed(self.url, error)
                # Asked each time: a worker that is told to stop becomes impatient with what it is waiting for already.
                wait_seconds = self.patience if patience is None else patience
                is_passing = isinstance(known, _PASSING if wait_seconds < _LONG_SECONDS else _PASSING_IN_THE_LONG_RUN)
                if not is_passing or time.monotonic() + pause > began_at + wait_seconds:
                    raise known from error
                met.add(error.node if isinstance(error, NodeLost) else "")
                if not met <= self._troubles:
                    log.warning("%s; trying again", known.problem)
                    self._troubles |= met
                await asyncio.sleep(pause)
                pause = min(pause * 2, _PAUSE_SECONDS_MAX)
            else:
                if self._troubles:
                    self._answered(met)
                if task is not None and task.cancelling() > cancels:
                    raise asyncio.CancelledError
                return answer

    def _answered(self, met: set[str]) -> None:
        """A call that had met some trouble was answered; one that met none says nothing of the other nodes of a cluster."""
        over = self._troubles & met if self.is_cluster else self._troubles
        self._troubles = self._troubles - over
        if over:
            log.info("the server at %s answers again", masked(self.url))


def _forbidden(tag: str, refusals: list[tuple[str, str]]) -> str:
    """What a user lacks, in words, for the commands that were refused and what the server said of each."""
    kinds = [(name.lower(), _WHAT_IS_FORBIDDEN.search(text)) for name, text in refusals]
    commands = sorted({name for name, kind in kinds if kind is None})
    others = sorted({kind.group(1) for _, kind in kinds if kind is not None}, reverse=True)
    said = [f"the {kind}s {tag}:…" for kind in others]
    if commands:
        said.insert(0, f"the command{'s' * (len(commands) > 1)} {', '.join(commands)}")
    return "; ".join(said)


def typed(url: str, error: Exception) -> FlowqError:
    """The error of flowq for an error of the client library. ServerUnreachable means: asking again may help."""
    if isinstance(error, NodeLost) and isinstance(error.__cause__, Exception):
        known = typed(url, error.__cause__)
        if not isinstance(known, (ServerUnreachable, ServerIsReplica)):
            return known
        # One of several: another becomes the primary in its place, or it comes back.
        reason = f"{what_the_system_said(error.__cause__) or error} (node {error.node})"
        return ServerUnreachable(url, reason, answered=_is_passing(error.__cause__))
    if isinstance(error, refused.ConnectionError) and isinstance(error.__cause__, refused.ResponseError):
        return typed(url, error.__cause__)  # what the server refused while the connection was set up
    text = str(error)
    if isinstance(error, refused.AuthenticationError) or any(word in text.lower() for word in _OF_LOGIN):
        return ServerRefusedLogin(url)
    if isinstance(error, refused.NoPermissionError):
        return ServerForbids(url, text)
    if isinstance(error, refused.ReadOnlyError):
        return ServerIsReplica(url)
    if isinstance(error, refused.OutOfMemoryError) or text.startswith("OOM"):
        return ServerIsFull(url)
    if "MISCONF" in text:
        return ServerReadOnly(url, text)
    if isinstance(error, refused.InvalidResponse) or "Protocol Error" in text:
        return NotARedisServer(url, text)
    if "DB index is out of range" in text:
        return InvalidValue("server URL", masked(url), "a database number that the server has, such as /0")
    # A script met it, or the setting up of a connection; then only the text is left.
    if "ACL failure" in text or "NOPERM" in text or "no permissions to" in text.lower():
        return ServerForbids(url, text)
    if "WRONGTYPE" in text or "user_script" in text or "user_function" in text:
        return CorruptState("", "a key", text)
    if _is_passing(error):
        return ServerUnreachable(url, text or type(error).__name__, answered=True)
    if isinstance(error, refused.ResponseError):
        return NotARedisServer(url, text) if "unknown command" in text.lower() else ServerForbids(url, text)
    return ServerUnreachable(url, what_the_system_said(error) or text or type(error).__name__)


def _is_passing(error: Exception) -> bool:
    return isinstance(error, _PASSING_ANSWERS) or _PASSING_WORDS.search(str(error)) is not None
