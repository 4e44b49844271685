"""What is in the servers: for tests that look at keys. flowq itself never scans."""

from __future__ import annotations

from typing import Any

import redis.asyncio as redis

from flowq.store.store import Store


async def keys_like(store: Store, pattern: str) -> list[bytes]:
    """All keys that match the pattern, of all servers."""
    found: list[bytes] = []
    for server in await store.connection.servers():
        client: Any = redis.Redis.from_url(server.url)
        async with client:
            found += [key async for key in client.scan_iter(match=pattern, count=10_000)]
    return found
