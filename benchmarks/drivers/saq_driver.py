"""SAQ. It has no flows: a stage enqueues the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from line import KEY, STAGES, Work, talk, tally
from saq import Queue, Worker

_AT_ONCE = 50
_TTL_SECONDS = 60


class Saq:
    """SAQ."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._name = url, namespace
        self._queue = Queue.from_url(url, name=namespace)

    async def submit(self, work: Work) -> None:
        """Enqueues one after the other, several at once: there is no enqueueing in bulk."""
        await self._queue.connect()
        left = 0 if work.shape == "single" else STAGES - 1
        for start in range(0, work.flows, _AT_ONCE):
            await asyncio.gather(*(self._add(left) for _ in range(min(_AT_ONCE, work.flows - start))))

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """One worker."""
        queue = Queue.from_url(self._url, name=self._name)
        worker: Any = Worker(queue, functions=[("step", self._step)], concurrency=work.concurrency)
        # `start` would install signal handlers for good and stop the event loop's runner with them.
        running = asyncio.create_task(worker.start())
        try:
            yield
        finally:
            await worker.stop()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def one(self) -> None:
        """Until its last stage has run."""
        tally.expect(1)
        await self._add(STAGES - 1)
        await tally.all_ended()

    async def _add(self, left: int) -> None:
        await self._queue.enqueue("step", path=KEY, left=left, ttl=_TTL_SECONDS)

    async def _step(self, context: Any, *, path: str, left: int) -> str:
        await tally.held_stage(is_last=left == 0)
        if left:
            await self._add(left - 1)
        return path


if __name__ == "__main__":
    talk(Saq, ("saq", "redis", "hiredis", "uvloop"))
