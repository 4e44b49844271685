"""A call to the server that is cancelled is over, whatever the client makes of it."""

from __future__ import annotations

import asyncio
import contextlib

import pytest
import redis.asyncio as redis

from flowq.store.store import Store

pytestmark = pytest.mark.anyio


async def test_a_cancel_that_the_client_swallows_is_not_lost(store: Store) -> None:
    begun = asyncio.Event()

    async def swallowing() -> str:
        """As `asyncio.wait_for` before Python 3.12, when the answer comes in the same moment."""
        begun.set()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()
        return "answer"

    calling = asyncio.create_task(store.connection._patiently(swallowing, None))
    await begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling


async def test_a_cancel_that_comes_with_an_error_ends_the_call_too(store: Store) -> None:
    begun, calls = asyncio.Event(), 0

    async def failing() -> str:
        nonlocal calls
        calls += 1
        begun.set()
        if calls == 1:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.Event().wait()
            raise redis.ConnectionError("gone")
        return "answer"

    calling = asyncio.create_task(store.connection._patiently(failing, None))
    await begun.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    assert calls == 1
