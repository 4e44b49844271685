"""One server: its pool of connections, and the scripts that it knows. One alone, or a node of several (`nodes.py`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from flowq.errors import InvalidValue, masked
from flowq.store.addresses import Host
from flowq.store.pool import Command, Pool
from flowq.store.script_caller import ScriptCaller

_CONNECT_SECONDS_MAX = 5.0
# Longer than any script may take, so that a stalled server is told from a dead one.
_ANSWER_SECONDS_MAX = 15.0


class Link(Protocol):
    """What `Connection` talks to: one server, or several that share the slots. Each call is made once; errors are redis-py's."""

    async def run(self, name: str, tag: str, args: tuple[Any, ...]) -> Any:
        """Calls a script on the partition of `tag`."""
        ...

    async def one(self, command: Command) -> Any:
        """Sends one command to who has its key."""
        ...

    async def several(self, commands: Sequence[Command]) -> list[Any]:
        """Sends several commands in one round trip; an error stands in the place of its answer."""
        ...

    async def all_servers(self) -> list[Server]:
        """Every primary there is."""
        ...

    async def server_of(self, key: str) -> Server:
        """Who has this key."""
        ...

    async def refresh(self) -> None:
        """Looks anew who has which keys."""
        ...

    async def close(self) -> None:
        """Closes all connections."""
        ...


class Server:
    """A fixed number of connections to one server; a call waits when all are in use.

    Args:
        url: `redis://`, `rediss://` or `unix://`.
        name: shown in the server's CLIENT LIST.
        size: how many connections at most.
        host: of one of several: how the others call it.

    Raises:
        InvalidValue: an option of the URL has no such value.
    """

    def __init__(self, url: str, name: str, size: int, host: Host = ("", 0)) -> None:
        self.url = url
        self.host = host
        # The client library's types are incomplete; nothing of it leaves the link and its connection. Of its own pool only what
        # it makes of the URL is used, and of its client how it reads the answers of commands.
        pools: Any = redis.ConnectionPool
        try:
            self._maker: Any = pools.from_url(
                url,
                client_name=name,
                protocol=2,
                retry=Retry(NoBackoff(), 0),
                socket_connect_timeout=_CONNECT_SECONDS_MAX,
                socket_timeout=None,  # how long an answer may take is said below, and who listens waits for ever
                **({} if url.startswith("unix") else {"socket_keepalive": True}),
            )
            self.line()
        except (TypeError, ValueError, redis.RedisError) as error:
            raise InvalidValue("server URL", masked(url), f"other options: {error}") from None
        self._readers: Any = redis.Redis(connection_pool=self._maker).response_callbacks
        self._pool = Pool(self.line, size, _ANSWER_SECONDS_MAX)
        self._caller = ScriptCaller(self.one)

    async def run(self, name: str, tag: str, args: tuple[Any, ...]) -> Any:
        """See `Link.run`."""
        return await self._caller.call(name, tag, args)

    async def try_functions(self) -> None:
        """See `ScriptCaller.try_functions`."""
        await self._caller.try_functions()

    async def one(self, command: Command) -> Any:
        """See `Link.one`."""
        (answer,) = await self.several([command])
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def several(self, commands: Sequence[Command]) -> list[Any]:
        """See `Link.several`."""
        answers = await self._pool.ask(commands)
        for position, (command, answer) in enumerate(zip(commands, answers, strict=True)):
            if (read := self._readers.get(command[0])) is not None and not isinstance(answer, Exception):
                answers[position] = read(answer)
        return answers

    async def all_servers(self) -> list[Server]:
        """See `Link.all_servers`."""
        return [self]

    async def server_of(self, key: str) -> Server:
        """See `Link.server_of`."""
        return self

    async def refresh(self) -> None:
        """There is one server, and its URL is known."""

    def line(self) -> Any:
        """A connection outside the pool, not open yet: for who listens, and may wait for ever."""
        return self._maker.make_connection()

    async def disconnect(self) -> None:
        """Closes the connections that nobody uses just now; others are opened in their place."""
        await self._pool.disconnect()

    async def close(self) -> None:
        """See `Link.close`."""
        await self._pool.disconnect(also_in_use=True)
