"""Ends tasks for certain: the client library can swallow a cancellation that meets it between two replies."""

from __future__ import annotations

import asyncio
from typing import Any

_AGAIN_SECONDS = 0.1


async def end(task: asyncio.Task[Any] | None) -> None:
    """Cancels the task, again and again until it has ended; what it raises is of no interest any more."""
    while task is not None and not task.done():
        task.cancel()
        await asyncio.wait([task], timeout=_AGAIN_SECONDS)
