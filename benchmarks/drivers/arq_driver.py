"""arq. It has no flows: a stage enqueues the next."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from arq import create_pool
from arq.connections import ArqRedis, RedisSettings
from arq.worker import Worker, func
from line import KEY, STAGES, Work, talk, tally

_AT_ONCE = 50
_POLL_SECONDS = 0.01
_RESULT_SECONDS = 60


class Arq:
    """arq."""

    def __init__(self, url: str, namespace: str) -> None:
        self._settings, self._name = RedisSettings.from_dsn(url), namespace
        self._pool: ArqRedis | None = None

    async def submit(self, work: Work) -> None:
        """Enqueues one after the other, several at once: there is no enqueueing in bulk."""
        left = 0 if work.shape == "single" else STAGES - 1
        for start in range(0, work.flows, _AT_ONCE):
            await asyncio.gather(*(self._add(left) for _ in range(min(_AT_ONCE, work.flows - start))))

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """One worker."""
        worker = Worker(
            [func(self._step, name="step")], queue_name=self._name, redis_settings=self._settings, max_jobs=work.concurrency,
            poll_delay=_POLL_SECONDS, keep_result=_RESULT_SECONDS, handle_signals=False, log_results=False,
        )  # fmt: skip
        running = asyncio.create_task(worker.async_run())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
            await asyncio.gather(*worker.tasks.values(), return_exceptions=True)  # `close` would cancel them
            await worker.close()

    async def one(self) -> None:
        """Until its last stage has run."""
        tally.expect(1)
        await self._add(STAGES - 1)
        await tally.all_ended()

    async def _add(self, left: int) -> None:
        if self._pool is None:
            self._pool = await create_pool(self._settings, default_queue_name=self._name)
        await self._pool.enqueue_job("step", KEY, left)

    async def _step(self, context: dict[str, Any], key: str, left: int) -> str:
        await tally.held_stage(is_last=left == 0)
        if left:
            await self._add(left - 1)
        return key


if __name__ == "__main__":
    talk(Arq, ("arq", "redis", "hiredis", "uvloop"))
