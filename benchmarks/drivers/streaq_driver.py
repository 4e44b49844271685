"""streaQ: single tasks with `enqueue_many`, chains with `then` (one transaction each), diamonds and fans with `after=`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import streaq
from line import KEY, STAGES, Work, talk, tally

# Flows that are added at the same time: each costs a round trip.
_AT_ONCE = 50


class StreaQ:
    """streaQ."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._name = url, namespace
        self._producer: Any = None
        self._open = contextlib.AsyncExitStack()

    async def submit(self, work: Work) -> None:
        """Adds them in the way of their shape."""
        async with self._made() as producer:
            if work.shape == "single":
                for start in range(0, work.flows, 1_000):
                    await producer.enqueue_many([producer.end.enqueue(KEY) for _ in range(min(1_000, work.flows - start))])
                return
            add: Callable[[Any, int], Any] = {"chain": _chain, "diamond": _diamond, "fan": _fan}[work.shape]
            for start in range(0, work.flows, _AT_ONCE):
                await asyncio.gather(*(add(producer, work.width) for _ in range(min(_AT_ONCE, work.flows - start))))

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """One worker."""
        running = asyncio.create_task(self._made(concurrency=work.concurrency).run_async())
        try:
            yield
        finally:
            await self._open.aclose()
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    async def one(self) -> None:
        """From `then` to the last one's result."""
        if self._producer is None:
            self._producer = await self._open.enter_async_context(self._made())
        last = await _chain(self._producer, 0)
        await last.result(timeout=30)

    def _made(self, **options: Any) -> Any:
        worker = streaq.Worker(redis_url=self._url, queue_name=self._name, handle_signals=False, **options)

        @worker.task
        async def step(key: str) -> str:
            await tally.held_stage(is_last=False)
            return key

        @worker.task
        async def end(key: str) -> str:
            await tally.held_stage(is_last=True)
            return key

        worker.step, worker.end = step, end  # type: ignore[attr-defined]
        return worker


async def _chain(producer: Any, _: int) -> Any:
    task = producer.step.enqueue(KEY)
    for _ in range(STAGES - 2):
        task = task.then(producer.step)
    return await task.then(producer.end)


async def _diamond(producer: Any, _: int) -> None:
    first = await producer.step.enqueue(KEY)
    sides = [producer.step.enqueue(KEY).start(after=first.id) for _ in range(2)]
    last = producer.end.enqueue(KEY).start(after=[side.id for side in sides])
    for task in (*sides, last):
        await task


async def _fan(producer: Any, width: int) -> None:
    first = await producer.step.enqueue(KEY)
    sides = [producer.step.enqueue(KEY).start(after=first.id) for _ in range(width)]
    last = producer.end.enqueue(KEY).start(after=[side.id for side in sides])
    for start in range(0, width, 1_000):
        await producer.enqueue_many(sides[start : start + 1_000])
    await last


if __name__ == "__main__":
    talk(StreaQ, ("streaq", "coredis", "uvloop"))
