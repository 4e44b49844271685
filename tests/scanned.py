"""What is in the servers: for tests that look at keys. flowq itself never scans."""

from __future__ import annotations

from flowq.store.store import Store


async def keys_like(store: Store, pattern: str) -> list[bytes]:
    """All keys that match the pattern, of all servers."""
    return [
        key for server in await store.connection.servers() async for key in server.client.scan_iter(match=pattern, count=10_000)
    ]
