"""Several servers that share the slots: a cluster; or the one that Sentinels name, which has all of them until another has.

Own code and not redis-py's cluster client, which follows every redirection. A slot that is moved key by key (MIGRATING) answers
ASK for what it does not hold any more, and a script that followed would run on the new node while half of the keys it looks for
are on the old one: it would see flows that lack stages. No key is named as a tag alone, which is what scripts declare, so the
server redirects every script *before* it begins; the call waits until the slot has moved. Single commands follow.
`docs/explanation/decisions/cluster.md` has the figures.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

from redis import exceptions as refused

from flowq.store.addresses import Host, named
from flowq.store.server import Command, Server
from flowq.store.slots import SLOTS, slot_of

_Answer = TypeVar("_Answer")
# From, to, and who has them.
Ranges = Sequence[tuple[int, int, Host]]

_HOPS_MAX = 5
_SCRIPTS = frozenset({"EVAL", "EVALSHA", "FCALL"})
_WITHOUT_KEY = frozenset({"ACL", "CLIENT", "CLUSTER", "CONFIG", "FUNCTION", "INFO", "KEYS", "PING", "PUBSUB", "SCRIPT", "TIME"})
# The server can't be reached, or is no primary any more: the slots may be somebody else's by now.
_NO_PRIMARY = (refused.ReadOnlyError, refused.ClusterDownError)
LOST: tuple[type[Exception], ...] = (refused.ConnectionError, refused.TimeoutError, *_NO_PRIMARY, OSError)


class NodeLost(refused.ConnectionError):
    """One of the servers could not be reached, or is no primary any more."""

    def __init__(self, host: Host, error: BaseException) -> None:
        super().__init__(str(error))  # pyright: ignore[reportUnknownMemberType]
        self.node = named(host)


class Nodes:
    """The servers that share the slots; a `Link`.

    Args:
        look: asks who has which slots; it gets the servers that are known, the one that knows best first.
        made: opens the connections to one server.
        seeds: who is asked first.
    """

    def __init__(
        self, look: Callable[[Sequence[Server]], Awaitable[Ranges]], made: Callable[[Host], Server], seeds: Sequence[Host] = ()
    ) -> None:
        self._look = look
        self._made = made
        self._seeds = seeds
        self._servers: dict[Host, Server] = {}
        self._owners: list[Host | None] = []
        self._looking = asyncio.Lock()
        self._looks = 0
        # Whether who has what may have changed since the last look.
        self._is_stale = True
        # Who told last that a slot is its own, and who was not to be reached.
        self._best: Host | None = None
        self._worst: Host | None = None

    async def run(self, name: str, tag: str, args: tuple[Any, ...]) -> Any:
        """See `Link.run`."""
        try:
            return await self._at(slot_of(tag), lambda server: server.run(name, tag, args))
        except refused.AskError as error:
            raise _later(error) from error

    async def one(self, command: Command) -> Any:
        """See `Link.one`."""

        async def call(server: Server) -> Any:
            try:
                return await server.one(command)
            except refused.MovedError:
                raise
            except refused.AskError as error:
                return await self._asking(error, command, server)

        return await self._at(_slot(command), call)

    async def several(self, commands: Sequence[Command]) -> list[Any]:
        """See `Link.several`. Commands without a key go where the one before them goes."""
        answers: list[Any] = [None] * len(commands)
        slots: list[int | None] = []
        for command in commands:
            slot = _slot(command)
            slots.append(slots[-1] if slot is None and slots else slot)
        left = list(range(len(commands)))
        for _ in range(_HOPS_MAX):
            by_server: dict[Server, list[int]] = {}
            for position in left:
                by_server.setdefault(await self._owner(slots[position]), []).append(position)
            left = await self._sent(commands, answers, by_server)
            if not left:
                break
        return answers

    async def all_servers(self) -> list[Server]:
        """See `Link.all_servers`."""
        await self._refreshed()
        if not any(self._owners):
            raise refused.ClusterDownError("CLUSTERDOWN nobody serves any slot")
        return [self._servers[host] for host in sorted({host for host in self._owners if host is not None})]

    async def server_of(self, key: str) -> Server:
        """See `Link.server_of`."""
        return await self._owner(slot_of(key))

    async def refresh(self) -> None:
        """See `Link.refresh`."""
        self._is_stale = True
        await self._refreshed()

    async def close(self) -> None:
        """See `Link.close`."""
        for server in self._servers.values():
            await server.close()

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _at(self, slot: int | None, call: Callable[[Server], Awaitable[_Answer]]) -> _Answer:
        """Calls who has the slot, and follows it where it has moved."""
        for _ in range(_HOPS_MAX):
            server = await self._owner(slot)
            try:
                return await call(server)
            except refused.MovedError as error:
                self._moved(error, server)
            except LOST as error:
                raise self._lost(server, error) from error
        raise refused.TryAgainError("TRYAGAIN the nodes do not agree who has the slot")

    async def _sent(self, commands: Sequence[Command], answers: list[Any], by_server: dict[Server, list[int]]) -> list[int]:
        """Sends each server its commands; returns which have to be sent again because their slot has moved."""
        calls = [server.several([commands[position] for position in own]) for server, own in by_server.items()]
        # All are waited for, also when one fails: what is sent may not be left without a reader.
        found = [await calls[0]] if len(calls) == 1 else await asyncio.gather(*calls, return_exceptions=True)
        again: list[int] = []
        for (server, positions), of_server in zip(by_server.items(), found, strict=True):
            if isinstance(of_server, BaseException):
                raise self._lost(server, of_server) if isinstance(of_server, LOST) else of_server
            for position, answer in zip(positions, of_server, strict=True):
                answers[position] = answer
                if isinstance(answer, LOST):
                    raise self._lost(server, answer)
                if isinstance(answer, refused.MovedError):
                    self._moved(answer, server)
                    again.append(position)
                elif isinstance(answer, refused.AskError):
                    answers[position] = await self._asking(answer, commands[position], server)
        return again

    async def _asking(self, error: refused.AskError, command: Command, asked: Server) -> Any:
        """Sends a command where its slot is moving to, and its key is already, or would be made. Not a script: see above."""
        if command[0] in _SCRIPTS:
            raise _later(error)
        server = self._server(_target(error, asked))
        try:
            _, answer = await server.several([("ASKING",), command])
        except LOST as lost:
            raise self._lost(server, lost) from lost
        if isinstance(answer, Exception):
            raise refused.TryAgainError(str(answer)) if isinstance(answer, refused.AskError) else answer
        return answer

    def _moved(self, error: refused.MovedError, server: Server) -> None:
        host = _target(error, server)
        self._server(host)
        self._owners[error.slot_id] = self._best = host
        self._is_stale = True

    def _lost(self, server: Server, error: BaseException) -> NodeLost:
        self._is_stale, self._worst = True, server.host
        return NodeLost(server.host, error)

    async def _owner(self, slot: int | None) -> Server:
        if self._is_stale:
            await self._refreshed()
        host = next((host for host in self._owners if host is not None), None) if slot is None else self._owners[slot]
        if host is None:
            self._is_stale = True
            raise refused.ClusterDownError(f"CLUSTERDOWN nobody serves slot {slot}")
        return self._servers[host]

    def _server(self, host: Host) -> Server:
        if host not in self._servers:
            self._servers[host] = self._made(host)
        return self._servers[host]

    async def _refreshed(self) -> None:
        looks = self._looks
        async with self._looking:
            if looks != self._looks or not self._is_stale:  # another call has looked meanwhile
                return
            known = dict.fromkeys((*self._servers, *self._seeds))
            order = sorted(known, key=lambda host: (host == self._worst, host != self._best))
            ranges = await self._look([self._server(host) for host in order])
            owners: list[Host | None] = [None] * SLOTS
            for first, last, host in ranges:
                owners[first : last + 1] = [host] * (last - first + 1)
                self._server(host)
            self._owners, self._looks, self._is_stale = owners, self._looks + 1, False
            gone = [host for host in self._servers if host not in set(owners)]
            for server in [self._servers.pop(host) for host in gone]:
                await server.close()


def _later(error: refused.AskError) -> Exception:
    return refused.TryAgainError(f"TRYAGAIN slot {error.slot_id} is being moved to another node")


def _target(error: refused.AskError, asked: Server) -> Host:
    """Where a redirection leads. A node that does not know its own name is reached as the one that was asked."""
    where: Any = error
    return (where.host or asked.host[0], int(where.port))


def _slot(command: Command) -> int | None:
    name = command[0]
    if name in _WITHOUT_KEY:
        return None
    at = command.index("STREAMS") + 1 if name == "XREAD" else 3 if name in _SCRIPTS else 1
    return slot_of(command[at])
