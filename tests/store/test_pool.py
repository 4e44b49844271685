"""The connections that calls are made over: bounded, kept open, and never used again after an answer was missed."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis import exceptions as refused

from flowq.store.pool import Pool
from tests.engine.waiting import in_the_end
from tests.servers import running_valkey

pytestmark = pytest.mark.anyio

SECONDS_MAX = 60.0


class Opened:
    """A pool, and how many connections were made for it."""

    def __init__(self, url: str, size: int = 2, seconds_max: float = SECONDS_MAX) -> None:
        self.made = 0
        # As `Server` does: no timeout of the library's own.
        self._maker: Any = redis.asyncio.ConnectionPool.from_url(url, client_name="pooled", socket_timeout=None)
        self.pool = Pool(self._make, size, seconds_max)

    def _make(self) -> Any:
        self.made += 1
        return self._maker.make_connection()

    async def is_asking(self) -> bool:
        """Whether a call is under way, on a connection that is open."""
        return any(connection.is_connected for connection in self.pool._in_use)


@pytest.fixture
async def opened(valkey_url: str, anyio_backend: str) -> AsyncIterator[Opened]:
    opened = Opened(valkey_url)
    yield opened
    await opened.pool.disconnect(also_in_use=True)


async def test_answers_come_in_the_order_of_the_commands_and_errors_stand_among_them(opened: Opened) -> None:
    first, second, third = await opened.pool.ask([("ECHO", "a"), ("ECHO",), ("ECHO", "b")])
    assert (first, third) == (b"a", b"b")
    assert isinstance(second, refused.ResponseError)
    assert await opened.pool.ask([("ECHO", "c")]) == [b"c"]
    assert opened.made == 1


async def test_more_calls_than_connections_wait(opened: Opened) -> None:
    answers = await asyncio.gather(*(opened.pool.ask([("ECHO", str(number))]) for number in range(50)))
    assert answers == [[str(number).encode()] for number in range(50)]
    assert opened.made == 2


async def test_a_connection_that_the_server_closed_while_it_was_idle_is_no_outage(opened: Opened, valkey_url: str) -> None:
    await opened.pool.ask([("ECHO", "a")])
    (connection,) = opened.pool._idle
    with redis.Redis.from_url(valkey_url) as client:
        (number,) = await opened.pool.ask([("CLIENT", "ID")])
        assert client.client_kill_filter(_id=str(number))

    async def is_closed() -> bool:
        return connection._reader.at_eof()

    await in_the_end(is_closed)
    assert await opened.pool.ask([("ECHO", "b")]) == [b"b"]
    assert opened.made == 2


async def test_who_is_cancelled_leaves_no_answer_behind_for_the_next(opened: Opened) -> None:
    waiting = asyncio.create_task(opened.pool.ask([("BLPOP", "nothing-comes", "30")]))
    await in_the_end(opened.is_asking)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert await opened.pool.ask([("ECHO", "b")]) == [b"b"]
    assert not opened.pool._in_use


async def test_a_server_that_does_not_answer_in_time_is_an_error_of_the_client_library(valkey_url: str) -> None:
    opened = Opened(valkey_url, seconds_max=0.1)
    with pytest.raises(refused.TimeoutError, match=r"no answer within 0\.1 s"):
        await opened.pool.ask([("BLPOP", "nothing-comes", "30")])
    assert await opened.pool.ask([("ECHO", "b")]) == [b"b"]
    await opened.pool.disconnect()


@pytest.mark.parametrize("size", [1, 50_000_000], ids=["waits for the answer", "is still sending"])
async def test_a_server_that_stands_still_is_waited_for_as_long_as_is_said(anyio_backend: str, size: int) -> None:
    with running_valkey() as url:
        opened = Opened(url, seconds_max=0.5)
        (told,) = await opened.pool.ask([("INFO", "server")])
        (pid,) = re.findall(rb"process_id:(\d+)", told)
        os.kill(int(pid), signal.SIGSTOP)
        try:
            async with asyncio.timeout(SECONDS_MAX):
                with pytest.raises((refused.TimeoutError, refused.ConnectionError)):
                    await opened.pool.ask([("SET", "a", b"x" * size)])
        finally:
            os.kill(int(pid), signal.SIGCONT)
        assert await opened.pool.ask([("ECHO", "b")]) == [b"b"]
        await opened.pool.disconnect()


@pytest.mark.parametrize("has_hiredis", [True, False])
async def test_all_that_is_sent_arrives_as_it_was(opened: Opened, has_hiredis: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not has_hiredis:
        monkeypatch.setattr("flowq.store.pool.pack_command", None)
    values = [b"", b"\x00\xff\r\n", "äöü", 0, -(2**63), 1.5, 1e300, memoryview(b"seen"), b"x" * 100_000]
    answers = await opened.pool.ask([("ECHO", value) for value in values])
    assert answers[:3] == [b"", b"\x00\xff\r\n", "äöü".encode()]
    assert [float(answer) for answer in answers[3:7]] == [0, -(2**63), 1.5, 1e300]
    assert answers[7:] == [b"seen", b"x" * 100_000]


async def test_calls_under_way_end_when_the_pool_is_closed(opened: Opened) -> None:
    waiting = asyncio.create_task(opened.pool.ask([("BLPOP", "nothing-comes", "30")]))
    await in_the_end(opened.is_asking)
    await opened.pool.disconnect(also_in_use=True)
    with pytest.raises(refused.ConnectionError):
        await waiting
