"""flowq as users drive it: `FlowProducer` and `Worker`, everything at its default. Only `claims` looks below: a claim alone."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from line import KEY, Work, talk, tally

from flowq import FlowProducer, FlowSpec, Worker, pipeline, stage
from flowq.store.connection import Connection
from flowq.store.store import Store, Wants
from flowq.store.wire import HolderInfo


@stage
async def measured_step(key: str) -> str:
    """Hands the key on."""
    await tally.held_stage(is_last=False)
    return key


@stage
async def measured_end(key: str) -> str:
    """The last of a chain, or all there is."""
    await tally.held_stage(is_last=True)
    return key


@stage
async def measured_join(left: str, right: str) -> str:
    """The last of a diamond."""
    tally.stage(is_last=True)
    return left


@stage
async def measured_split(key: str, width: int) -> list[str]:
    """The first of a fan."""
    tally.stage(is_last=False)
    return [key] * width


@stage
async def measured_gather(keys: list[str]) -> int:
    """The last of a fan."""
    tally.stage(is_last=True)
    return len(keys)


@pipeline
def measured_chain(key: str) -> str:
    """Four stages, one after the other."""
    return measured_end(measured_step(measured_step(measured_step(key))))


@pipeline
def measured_diamond(key: str) -> str:
    """One, two beside each other, one."""
    first = measured_step(key)
    return measured_join(measured_step(first), measured_step(first))


@pipeline
def measured_fan(key: str, width: int) -> int:
    """One, many beside each other, one."""
    return measured_gather(measured_step.map(measured_split(key, width)))


SHAPES: dict[str, Callable[[Work], FlowSpec[Any]]] = {
    "single": lambda work: measured_end.flow(KEY),
    "chain": lambda work: measured_chain(KEY),
    "diamond": lambda work: measured_diamond(KEY),
    "fan": lambda work: measured_fan(KEY, work.width),
}
_PIPELINES = [measured_chain, measured_diamond, measured_fan]


class Flowq:
    """flowq."""

    ends_with_goodbye = True  # the acknowledgement of the last outcome is part of the work

    def __init__(self, url: str, namespace: str) -> None:
        self._url, self._namespace = url, namespace
        self._producer: FlowProducer | None = None
        self._open = contextlib.AsyncExitStack()

    async def submit(self, work: Work) -> None:
        """Adds flows from a generator."""
        async with FlowProducer(self._url, namespace=self._namespace) as producer:
            await producer.add_bulk(SHAPES[work.shape](work) for _ in range(work.flows))

    @contextlib.asynccontextmanager
    async def worker(self, work: Work) -> AsyncIterator[None]:
        """The embedded worker, and a producer for chains that are added alone."""
        with tempfile.TemporaryDirectory() as directory:
            worker = Worker(
                self._url, namespace=self._namespace, pipelines=_PIPELINES, stages=[measured_end], concurrency=work.concurrency,
                artifacts=f"file:{directory}" if work.shape == "fan" else None,  # a list of 10,000 keys is no value for Redis
            )  # fmt: skip
            running = asyncio.create_task(worker.run())
            try:
                yield
            finally:
                await worker.stop()
                await running
                await self._open.aclose()

    async def told_of_run(self, work: Work) -> dict[str, Any]:
        """Of a fan, by the server's clock: from the commit of the last child to the claim of its parent."""
        if work.shape != "fan":
            return {}
        async with FlowProducer(self._url, namespace=self._namespace) as producer:
            (flow,) = await producer.list(limit=1)
            stages = {stage.stage: stage for stage in (await producer.flow(flow.id).inspect()).graph}
        ended_at, started_at = stages["measured_step"].ended_at, stages["measured_gather"].started_at
        return {"claimed_ms": started_at - ended_at} if ended_at and started_at else {}

    async def one(self) -> None:
        """From `add` to its result."""
        if self._producer is None:
            self._producer = await self._open.enter_async_context(FlowProducer(self._url, namespace=self._namespace))
        await (await self._producer.add(measured_chain(KEY))).result(timeout=30)

    async def claims(self, samples: int) -> list[float]:
        """Exchanges that report nothing and claim one stage; what is claimed stays with its holder."""
        store = Store(Connection(self._url), self._namespace)
        await store.open()
        (tag,) = store.partitions
        await store.register(tag, "measuring", 600_000, HolderInfo("measuring", ("default",), ("measured_end",), (), 1))
        milliseconds: list[float] = []
        wants = [Wants(-1, ("default:measured_end",))]
        for seq in range(1, samples + 1):
            await store.submit([(f"claimed-{secrets.token_hex(8)}", measured_end.flow(KEY))])
            began = time.perf_counter()
            answer = await store.exchange(tag, "measuring", 0, seq, f"n{seq}", [], [], wants, 1, False)
            milliseconds.append(1000 * (time.perf_counter() - began))
            if answer is None or len(answer.claims) != 1:
                raise RuntimeError("an exchange claimed nothing")
        await store.close()
        return milliseconds


if __name__ == "__main__":
    talk(Flowq, ("redis", "hiredis", "msgspec", "uvloop"))
