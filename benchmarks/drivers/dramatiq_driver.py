"""dramatiq: chains with `pipeline`, one process of threads. Groups can't stand in a pipeline, so no diamonds and no fans."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker
from line import KEY, STAGES, Work, talk, tally


class Dramatiq:
    """dramatiq."""

    def __init__(self, url: str, namespace: str) -> None:
        # One connection for each thread: where there are fewer it loses what a pipeline goes on with.
        self._broker = RedisBroker(client=redis.Redis.from_url(url, max_connections=1_000), namespace=namespace)

        def step(key: str) -> str:
            tally.stage(is_last=False)
            return key

        def end(key: str) -> str:
            tally.stage(is_last=True)
            return key

        self._step = dramatiq.actor(step, broker=self._broker, actor_name="step")
        self._end = dramatiq.actor(end, broker=self._broker, actor_name="end")

    async def submit(self, work: Work) -> None:
        """One after the other: there is no adding in bulk."""
        for _ in range(work.flows):
            self._add(work)

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """One worker in threads of this process."""
        worker = dramatiq.Worker(self._broker, worker_threads=work.concurrency)
        worker.start()
        try:
            yield
        finally:
            await asyncio.to_thread(worker.stop)

    async def one(self) -> None:
        """Until its last stage has run."""
        tally.expect(1)
        self._add(Work())
        await tally.all_ended()

    def _add(self, work: Work) -> None:
        if work.shape == "single":
            self._end.send(KEY)
            return
        messages: list[Any] = [self._step.message(KEY), *(self._step.message() for _ in range(STAGES - 2)), self._end.message()]
        dramatiq.pipeline(messages, broker=self._broker).run()


if __name__ == "__main__":
    talk(Dramatiq, ("dramatiq", "redis", "hiredis"))
