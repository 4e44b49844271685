"""The processes of a benchmark, each started by `chains.py`: a submitter, a worker, one chain at a time.

Each prints "ready" when all is imported and connected, waits for a line, works, and prints one line of JSON. The worker has
a process of its own so that its processor time is its own.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections.abc import Coroutine
from typing import Any

from benchmarks.floor import run_floor
from benchmarks.work import KEY, chain, when_done
from flowq import FlowProducer, Worker


def main() -> None:
    """`python -m benchmarks.parts PART URL NAMESPACE FLOWS CONCURRENCY LOOP`."""
    part, url, namespace, flows, concurrency, loop = sys.argv[1:]
    works = {"submit": submit, "work": work, "alone": alone, "floor": floor}
    print(json.dumps(run(works[part](url, namespace, int(flows), int(concurrency)), loop)), flush=True)


def run(work: Coroutine[Any, Any, Any], loop: str) -> Any:
    """Runs it in the wanted event loop."""
    if loop == "asyncio":
        return asyncio.run(work)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(work)


async def go() -> None:
    """Tells the benchmark that all is ready and waits for its word."""
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.readline)


async def submit(url: str, namespace: str, flows: int, concurrency: int) -> dict[str, float]:
    """Adds the flows in bulk."""
    async with FlowProducer(url, namespace=namespace) as producer:
        await go()
        began, cpu = time.perf_counter(), time.process_time()
        await producer.add_bulk(chain(KEY) for _ in range(flows))
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


async def work(url: str, namespace: str, flows: int, concurrency: int) -> dict[str, float]:
    """Runs all flows that were added, from connecting to the acknowledgement of the last outcome."""
    worker = Worker(url, namespace=namespace, pipelines=[chain], concurrency=concurrency)
    done = itertools.count(1)
    stopping: list[asyncio.Task[None]] = []

    def count() -> None:
        if next(done) == flows:
            stopping.append(asyncio.create_task(worker.stop()))

    await go()
    began, cpu = time.perf_counter(), time.process_time()
    with when_done(count):
        await worker.run()
    return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}


async def alone(url: str, namespace: str, flows: int, concurrency: int) -> dict[str, Any]:
    """One chain after the other, each from `add` to its result, on an otherwise idle worker in this process."""
    worker = Worker(url, namespace=namespace, pipelines=[chain], concurrency=concurrency)
    working = asyncio.create_task(worker.run())
    milliseconds: list[float] = []
    async with FlowProducer(url, namespace=namespace) as producer:
        for _ in range(20):  # what is read once, such as the plan
            await (await producer.add(chain(KEY))).result(timeout=10)
        await go()
        for _ in range(flows):
            began = time.perf_counter()
            await (await producer.add(chain(KEY))).result(timeout=10)
            milliseconds.append(1000 * (time.perf_counter() - began))
        print("done", flush=True)
        await asyncio.to_thread(sys.stdin.readline)  # the counters are read before the worker says goodbye
    await worker.stop()
    await working
    return {"milliseconds": milliseconds}


async def floor(url: str, namespace: str, flows: int, concurrency: int) -> dict[str, float]:
    """The same work with the least that could do it."""
    await go()
    cpu = time.process_time()
    seconds = await run_floor(url, namespace, flows, concurrency)
    return {"seconds": seconds, "cpu": time.process_time() - cpu}


if __name__ == "__main__":
    main()
