"""taskiq with the stream broker and the Redis result backend. It has no flows: a stage kicks the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from line import KEY, STAGES, Work, talk, tally
from taskiq.receiver import Receiver
from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

_AT_ONCE = 50
_STOP_SECONDS = 2.5


class Taskiq:
    """taskiq."""

    def __init__(self, url: str, namespace: str) -> None:
        results: Any = RedisAsyncResultBackend(url, result_ex_time=60, prefix_str=namespace)
        self._broker = RedisStreamBroker(url, queue_name=namespace, consumer_group_name=namespace).with_result_backend(results)

        @self._broker.task(task_name=f"{namespace}:step")
        async def step(key: str, left: int) -> str:
            await tally.held_stage(is_last=left == 0)
            if left:
                await step.kiq(key, left - 1)
            return key

        self._step = step

    async def submit(self, work: Work) -> None:
        """Kicks one after the other, several at once: there is no kicking in bulk."""
        await self._broker.startup()
        left = 0 if work.shape == "single" else STAGES - 1
        for start in range(0, work.flows, _AT_ONCE):
            await asyncio.gather(*(self._step.kiq(KEY, left) for _ in range(min(_AT_ONCE, work.flows - start))))

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """A receiver in this process."""
        await self._broker.startup()
        self._broker.is_worker_process = True
        finish = asyncio.Event()
        receiver = Receiver(self._broker, max_async_tasks=work.concurrency, run_startup=False)
        running = asyncio.create_task(receiver.listen(finish))
        try:
            yield
        finally:
            finish.set()  # it is noticed when a read of the stream has ended; cancelling may be swallowed
            await asyncio.wait({running}, timeout=_STOP_SECONDS)
            await self._broker.shutdown()

    async def one(self) -> None:
        """Until its last stage has run."""
        tally.expect(1)
        await self._step.kiq(KEY, STAGES - 1)
        await tally.all_ended()


if __name__ == "__main__":
    talk(Taskiq, ("taskiq", "taskiq-redis", "redis", "hiredis", "uvloop"))
