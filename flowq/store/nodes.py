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
from typing import Any, NamedTuple

from redis import exceptions as refused

from flowq.store.addresses import Host, named
from flowq.store.server import Command, Server
from flowq.store.slots import SLOTS, slot_of

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
        return await self._at(slot_of(tag), lambda server: server.run(name, tag, args))

    async def one(self, command: Command) -> Any:
        """See `Link.one`."""
        return await self._at(_slot(command), lambda server: server.one(command), command)

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

    async def _at(self, slot: int | None, call: Callable[[Server], Awaitable[Any]], command: Command = ()) -> Any:
        """Calls who has the slot, and follows it where it has moved, or moves to if it is a command that is called."""
        for _ in range(_HOPS_MAX):
            server = await self._owner(slot)
            try:
                return await call(server)
            except LOST as error:
                raise self._lost(server, error) from error
            except refused.ResponseError as error:
                if (found := _redirection(error, server)) is None:
                    raise
                if not found.has_moved:
                    return await self._asking(found, command)
                self._moved(found)
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
                if isinstance(answer, Exception) and (found := _redirection(answer, server)) is not None:
                    if found.has_moved:
                        self._moved(found)
                        again.append(position)
                    else:
                        answers[position] = await self._asking(found, commands[position])
        return again

    async def _asking(self, found: _Redirection, command: Command) -> Any:
        """Sends a command where its slot is moving to, and its key is already, or would be made. Not a script: see above."""
        if not command or command[0] in _SCRIPTS:
            raise refused.TryAgainError(f"TRYAGAIN slot {found.slot} is being moved to another node")
        server = self._server(found.host)
        try:
            _, answer = await server.several([("ASKING",), command])
        except LOST as lost:
            raise self._lost(server, lost) from lost
        if isinstance(answer, Exception):  # it may have arrived, or gone on, meanwhile
            raise refused.TryAgainError(f"TRYAGAIN {answer}") if _redirection(answer, server) else answer
        return answer

    def _moved(self, found: _Redirection) -> None:
        self._server(found.host)
        self._owners[found.slot] = self._best = found.host
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


class _Redirection(NamedTuple):
    slot: int
    host: Host
    has_moved: bool


def _redirection(error: Exception, asked: Server) -> _Redirection | None:
    """Where an answer sends us, if it does. The client library, by version, has errors of their own for these, or not."""
    word, text = "MOVED" if isinstance(error, refused.MovedError) else "ASK", str(error)
    if not isinstance(error, refused.AskError):
        word, _, text = text.partition(" ")
    if word not in ("MOVED", "ASK"):
        return None
    slot, where = text.split()[:2]
    name, _, port = where.rpartition(":")
    # A node that does not know its own name is reached as the one that was asked.
    return _Redirection(int(slot), (name or asked.host[0], int(port)), word == "MOVED")


def _slot(command: Command) -> int | None:
    name = command[0]
    if name in _WITHOUT_KEY:
        return None
    at = command.index("STREAMS") + 1 if name == "XREAD" else 3 if name in _SCRIPTS else 1
    return slot_of(command[at])
