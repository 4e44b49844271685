"""`/livez` and `/readyz` for whoever watches a worker from outside, and `/backlog` for who decides how many workers there are.

Loopback only, unless told otherwise: it tells yes or no, the names of queues, and how much there is to do in them.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from flowq.errors import InvalidValue

_REQUEST_SECONDS_MAX = 5.0
_ANSWER_SECONDS_MAX = 10.0

# Answers a query with a status and JSON.
Page = Callable[[str], Awaitable[tuple[int, bytes]]]


class Health:
    """A tiny HTTP server; made by `serve`."""

    def __init__(self, is_ready: Callable[[], bool], backlog: Page | None = None) -> None:
        self._is_ready = is_ready
        self._backlog = backlog
        self._server: asyncio.Server | None = None

    @classmethod
    async def serve(cls, port: int, is_ready: Callable[[], bool], backlog: Page | None = None, host: str = "127.0.0.1") -> Health:
        """Serves until it is closed. Raises InvalidValue when the port is taken, or the address not this host's."""
        health = cls(is_ready, backlog)
        try:
            health._server = await asyncio.start_server(health._answer, host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InvalidValue("health port", port, f"a free port ({error.strerror})") from None
            raise InvalidValue("health address", f"{host}:{port}", f"an address of this host ({error.strerror})") from None
        return health

    def close(self) -> None:
        """Stops serving."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes in the same moment as the line.
            async with asyncio.timeout(_REQUEST_SECONDS_MAX):
                request = await reader.readline()
            path, _, query = ([*request.split(), b"", b""])[1].decode("latin-1").partition("?")
            async with asyncio.timeout(_ANSWER_SECONDS_MAX):
                status, body = await self._page(path, query)
            head = f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\nContent-Type: application/json\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            return
        finally:
            writer.close()

    async def _page(self, path: str, query: str) -> tuple[int, bytes]:
        if path == "/backlog" and self._backlog is not None:
            return await self._backlog(query)
        return {"/livez": 200, "/readyz": 200 if self._is_ready() else 503}.get(path, 404), b""
