"""`/livez` and `/readyz` for whoever watches a worker from outside. Loopback only; it tells nothing but yes or no."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from flowq.errors import InvalidValue

_REQUEST_SECONDS_MAX = 5.0


class Health:
    """A tiny HTTP server; made by `serve`."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready
        self._server: asyncio.Server | None = None

    @classmethod
    async def serve(cls, port: int, is_ready: Callable[[], bool]) -> Health:
        """Serves on 127.0.0.1. Raises InvalidValue when the port is taken."""
        health = cls(is_ready)
        try:
            health._server = await asyncio.start_server(health._answer, "127.0.0.1", port)
        except OSError as error:
            raise InvalidValue("health port", port, f"a free port ({error.strerror})") from None
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
            path = ([*request.split(), b"", b""])[1]
            status = {b"/livez": "200 OK", b"/readyz": "200 OK" if self._is_ready() else "503 Service Unavailable"}.get(
                path, "404 Not Found"
            )
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
            await writer.drain()
        except (TimeoutError, ConnectionError, ValueError):
            return
        finally:
            writer.close()
