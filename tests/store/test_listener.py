"""The connection that listens: what it is told while the server has not answered what it was told before."""

from __future__ import annotations

import asyncio

import pytest

from flowq.store.listener import Listener
from flowq.store.store import Store

pytestmark = pytest.mark.anyio

PATIENCE_SECONDS = 30.0


async def test_a_channel_left_and_taken_again_at_once_has_not_moved(store: Store) -> None:
    channel = store.keys.tags[0] + "test"
    heard: asyncio.Queue[str] = asyncio.Queue()
    listener = Listener(await store.connection.server_of(channel), heard.put_nowait)
    listener.add(channel)
    listening = asyncio.create_task(listener.listen())
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert await heard.get() == channel
        for _ in range(20):
            listener.remove(channel)
            while channel in listener._listens:  # the server is told, and has not answered  # noqa: ASYNC110
                await asyncio.sleep(0)
            listener.add(channel)
            assert await heard.get() == channel
            assert not listening.done(), listening.exception()
        await store.connection.command("SPUBLISH", channel, "1")
        assert await heard.get() == channel
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
