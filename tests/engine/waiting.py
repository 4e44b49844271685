"""Waiting for what announces nothing: a process in /proc, a lease on a server, a file. Everything else is waited for itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

# Longer than anything here takes, on the slowest machine.
PATIENCE_SECONDS = 30.0


def eventually(claim: Callable[[], T], seconds: float = PATIENCE_SECONDS, explain: Callable[[], str] = str) -> T:
    """What the claim gives, once it is true; fails with what `explain` says when it is not within `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < deadline, f"it did not come true within {seconds} s\n{explain()}"
        time.sleep(0.02)
    return found


async def in_the_end(claim: Callable[[], Awaitable[T | None]], seconds: float = PATIENCE_SECONDS) -> T:
    """The same for a coroutine function."""
    async with asyncio.timeout(seconds):
        while not (found := await claim()):  # noqa: ASYNC110  nobody tells
            await asyncio.sleep(0.02)
    return found


async def closed_connections_of(name: str, command: Callable[..., Awaitable[bytes]]) -> None:
    """Waits until the server, asked by `command`, has no connection of this name."""

    async def are_closed() -> bool:
        return f"name={name}" not in (await command("CLIENT", "LIST")).decode()

    await in_the_end(are_closed)
