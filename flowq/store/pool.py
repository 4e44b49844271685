"""The connections to one server over which calls are made.

The client library makes them. Its own pool and client, which would stand between a call and its connection, cost as much of
Python's time as all else of a call does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from redis import exceptions as refused

try:
    from hiredis import pack_command  # pyright: ignore[reportUnknownVariableType]
except ImportError:
    pack_command = None

Command = Sequence[Any]

_LAST_LOOK_SECONDS = 0.01


class Pool:
    """A fixed number of connections; a call waits when all are in use.

    Args:
        make: makes a connection of the client library, whose types are incomplete; it need not be open.
        size: how many there are at most.
        seconds_max: how long an answer may take.
    """

    def __init__(self, make: Callable[[], Any], size: int, seconds_max: float) -> None:
        self._make = make
        self._seconds_max = seconds_max
        self._free = asyncio.Semaphore(size)
        self._idle: list[Any] = []
        self._in_use: set[Any] = set()

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Sends commands in one round trip. An error that is an answer stands in its place; others are raised, and cost the
        connection: what becomes of the commands then is unknown."""
        async with self._free:
            connection = self._taken()
            self._in_use.add(connection)
            patience: _Patience | None = None
            try:
                if not connection.is_connected:
                    await self._connect(connection)
                # No `asyncio.timeout`, which costs as much as the packing.
                patience = _Patience(connection, self._seconds_max, self._too_late)
                await connection.send_packed_command(_packed(connection, commands), check_health=False)
                answers = [await _answer(connection) for _ in commands]
            except BaseException:
                await connection.disconnect(nowait=True)
                raise
            finally:
                if patience is not None:
                    patience.end()
                self._in_use.discard(connection)
            self._idle.append(connection)
            return answers

    async def disconnect(self, *, also_in_use: bool = False) -> None:
        """Closes the connections that nobody uses just now, or all; others are opened in their place."""
        closing, self._idle = self._idle + list(self._in_use if also_in_use else ()), []
        for connection in closing:
            await connection.disconnect()

    async def _connect(self, connection: Any) -> None:
        try:
            async with asyncio.timeout(self._seconds_max):
                await connection.connect_check_health(check_health=False)
        except TimeoutError as error:
            raise self._too_late() from error

    def _too_late(self) -> refused.TimeoutError:
        return refused.TimeoutError(f"no answer within {self._seconds_max:g} s")

    def _taken(self) -> Any:
        while self._idle:
            connection = self._idle.pop()
            # One that the server has closed meanwhile would tell of an outage that is none. There is no public way to ask.
            if connection.is_connected and not connection._reader.at_eof():
                return connection
            connection._close()
        return self._make()


def _packed(connection: Any, commands: Sequence[Command]) -> list[bytes]:
    if pack_command is None:
        return connection.pack_commands(commands)
    return [pack_command(tuple(command)) for command in commands]


class _Patience:
    """Ends what waits for the connection when it has for so long: to read, with `why`, or to write."""

    __slots__ = ("_connection", "_timer", "_why")

    def __init__(self, connection: Any, seconds: float, why: Callable[[], Exception]) -> None:
        self._connection, self._why = connection, why
        self._timer = asyncio.get_running_loop().call_later(seconds, self._once_more)

    def end(self) -> None:
        self._timer.cancel()

    def _once_more(self) -> None:
        # Where the loop has stood still the answer may be there: it is read first.
        self._timer = asyncio.get_running_loop().call_later(_LAST_LOOK_SECONDS, self._cut)

    def _cut(self) -> None:
        if self._connection.is_connected:
            self._connection._reader.set_exception(self._why())
            self._connection._writer.transport.abort()


async def _answer(connection: Any) -> Any:
    try:
        return await connection.read_response()
    except refused.ResponseError as error:
        return error
