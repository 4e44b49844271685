"""`/livez` and `/readyz`: yes or no, to anybody who asks, however badly."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from flowq.engine.worker.health import Health
from flowq.errors import InvalidValue

pytestmark = pytest.mark.anyio


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return probe.getsockname()[1]


async def asked(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    writer.write_eof()
    answer = await reader.read()
    writer.close()
    return answer


async def test_it_answers_whether_it_lives_and_whether_it_is_ready() -> None:
    ready, port = True, free_port()
    health = await Health.serve(port, lambda: ready)
    assert b" 200 " in await asked(port, b"GET /livez HTTP/1.1\r\n\r\n")
    assert b" 200 " in await asked(port, b"GET /readyz HTTP/1.1\r\n\r\n")
    ready = False
    assert b" 200 " in await asked(port, b"GET /livez HTTP/1.1\r\n\r\n")
    assert b" 503 " in await asked(port, b"GET /readyz HTTP/1.1\r\n\r\n")
    assert b" 404 " in await asked(port, b"GET /etc/passwd HTTP/1.1\r\n\r\n")
    health.close()


@pytest.mark.parametrize("request_bytes", [b"", b"\n", b"\x00\xff\n", b"GET\n", b"x" * 200_000, b"GET  /livez\n"])
async def test_bad_requests_do_not_end_it(request_bytes: bytes) -> None:
    port = free_port()
    health = await Health.serve(port, lambda: True)
    with contextlib.suppress(ConnectionError):  # it may hang up
        await asked(port, request_bytes)
    assert b" 200 " in await asked(port, b"GET /livez HTTP/1.1\r\n\r\n")
    health.close()


async def test_a_taken_port_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        with pytest.raises(InvalidValue, match="health port"):
            await Health.serve(taken.getsockname()[1], lambda: True)
