"""BullMQ's Python port, driven like BullMQ: one parent for each job, so no diamonds, and a fan begins with its children."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from typing import Any

from bullmq import FlowProducer, Queue, Worker
from line import KEY, STAGES, Work, talk, tally


async def process(job: Any, token: str) -> str:
    """A stage."""
    await tally.held_stage(is_last=job.name == "last")
    return job.data["key"]


class BullMQ:
    """BullMQ's Python port."""

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._name = url, namespace
        self._producer: FlowProducer | None = None

    async def submit(self, work: Work) -> None:
        """Jobs by 1,000, flows by 250."""
        if work.shape == "single":
            queue = Queue(self._name, {"connection": self._url})
            for start in range(0, work.flows, 1_000):
                size = min(1_000, work.flows - start)
                await queue.addBulk([{"name": "last", "data": {"key": KEY}, "opts": _options(work)} for _ in range(size)])
            await queue.close()
            return
        producer = FlowProducer({"connection": self._url})
        for start in range(0, work.flows, 250):
            await producer.addBulk([self._flow(work) for _ in range(min(250, work.flows - start))])
        await producer.close()

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """One worker."""
        worker = Worker(self._name, process, {"connection": self._url, "concurrency": work.concurrency})
        try:
            yield
        finally:
            await worker.close()
            if self._producer:
                await self._producer.close()

    async def one(self) -> None:
        """Until its last stage has run: there is no waiting for a result."""
        if self._producer is None:
            self._producer = FlowProducer({"connection": self._url})
        tally.expect(1)
        await self._producer.add(self._flow(Work()))
        await tally.all_ended()

    def _flow(self, work: Work) -> dict[str, Any]:
        if work.shape == "fan":
            return self._job("last", work, [self._job("step", work, []) for _ in range(work.width)])
        flow = self._job("step", work, [])
        for _ in range(STAGES - 2):
            flow = self._job("step", work, [flow])
        return self._job("last", work, [flow])

    def _job(self, name: str, work: Work, children: list[dict[str, Any]]) -> dict[str, Any]:
        job = {"name": name, "queueName": self._name, "data": {"key": KEY}, "opts": _options(work)}
        return {**job, "children": children} if children else job


def _options(work: Work) -> dict[str, Any]:
    return {} if work.keep else {"removeOnComplete": True}


if __name__ == "__main__":
    talk(BullMQ, ("bullmq", "redis", "hiredis", "uvloop"))
