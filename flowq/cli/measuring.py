"""What `flowq bench` measures: chains of four stages that do nothing, in a namespace of their own that is removed afterwards.

Producer and worker are those that users have, in this process, with everything at its default. Other work on the same server
is not disturbed more than by any other application, and disturbs the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import cast

import msgspec

from flowq.engine.backend import Backend
from flowq.engine.client.producer import FlowProducer
from flowq.engine.worker.worker import Worker
from flowq.errors import ServerError
from flowq.pipeline import pipeline, stage
from flowq.settings import Settings
from flowq.store.keys import FINISHED, PERMANENT
from flowq.store.views import Views

STAGES = 4
KEY = "s3://media/flows/0000000000000000/source/1-00000000/video.mp4"

_WARM_FLOWS = 20
_ALONE_SECONDS_MAX = 60.0
_HOUR_MS = 3_600_000

_when_done: list[Callable[[], None]] = []


class Measured(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        flows, concurrency: how many chains were added and run in bulk, and how many of their stages at once.
        submit: flows added in a second.
        run: stages run in a second, from the start of the worker to its goodbye.
        submit_and_run: flows in a second, one after the other.
        alone_p50_ms, alone_p99_ms: one chain on an idle worker, from `add` to its result.
        waiting_bytes, completed_bytes: what a chain takes of the server's memory; None: the server does not tell.
    """

    flows: int
    concurrency: int
    submit: float
    run: float
    submit_and_run: float
    alone_p50_ms: float
    alone_p99_ms: float
    waiting_bytes: float | None
    completed_bytes: float | None


@contextlib.contextmanager
def when_done(callback: Callable[[], None]) -> Generator[None]:
    """Calls back in the worker whenever the last stage of a chain runs, until the block ends."""
    _when_done.append(callback)
    try:
        yield
    finally:
        _when_done.remove(callback)


@stage(queue="bench")
async def bench_first(key: str) -> str:
    """Hands the key on."""
    return key


@stage(queue="bench")
async def bench_second(key: str) -> str:
    """Hands the key on."""
    return key


@stage(queue="bench")
async def bench_third(key: str) -> str:
    """Hands the key on."""
    return key


@stage(queue="bench")
async def bench_fourth(key: str) -> str:
    """Hands the key on."""
    for callback in _when_done:
        callback()
    return key


@pipeline
def chain(key: str) -> str:
    """Four stages, one after the other."""
    return bench_fourth(bench_third(bench_second(bench_first(key))))


async def measure(settings: Settings, *, flows: int, alone: int, concurrency: int) -> Measured:
    """Measures on the server of the settings, and leaves nothing there.

    Args:
        settings: where the server is; their namespace is not used.
        flows: how many chains are added and run in bulk.
        alone: how many are run one after the other.
        concurrency: how many stages run at once.

    Raises:
        ServerNotConfigured, ServerError, EmbeddedError, InvalidValue: see `FlowProducer` and `Worker`.
    """
    own = msgspec.structs.replace(settings, namespace=f"bench{secrets.token_hex(4)}")
    async with FlowProducer(settings=own) as producer, _backend(own) as backend:
        views = Views(backend.store)
        began_at = await views.now()
        try:
            milliseconds = await _alone(producer, own, alone, concurrency)
            empty = await _memory(backend)
            submit_seconds = await _seconds(producer.add_bulk(chain(KEY) for _ in range(flows)))
            waiting = await _memory(backend)
            run_seconds = await _seconds(_run(own, flows, concurrency))
            completed = await _memory(backend)
        finally:
            await _remove(producer, backend, range(began_at // _HOUR_MS, await views.now() // _HOUR_MS + 1))
    return Measured(
        flows, concurrency, flows / submit_seconds, flows * STAGES / run_seconds, flows / (submit_seconds + run_seconds),
        statistics.median(milliseconds), milliseconds[min(len(milliseconds) - 1, int(0.99 * len(milliseconds)))],
        _each(empty, waiting, flows), _each(empty, completed, flows),
    )  # fmt: skip


@contextlib.asynccontextmanager
async def _backend(settings: Settings) -> AsyncGenerator[Backend]:
    """A connection beside the producer's: to ask for the memory, and to remove what is left."""
    backend = await Backend.open(settings, name="flowq:bench", connections=1, with_storage=False)
    try:
        yield backend
    finally:
        await backend.close()


async def _seconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _alone(producer: FlowProducer, settings: Settings, flows: int, concurrency: int) -> list[float]:
    """Milliseconds of each, sorted. What is read once, such as the plan, is read before."""
    worker = Worker(settings=settings, pipelines=[chain], concurrency=concurrency)
    working = asyncio.create_task(worker.run())
    milliseconds: list[float] = []
    try:
        for number in range(_WARM_FLOWS + flows):
            began = time.perf_counter()
            await (await producer.add(chain(KEY))).result(_ALONE_SECONDS_MAX)
            if number >= _WARM_FLOWS:
                milliseconds.append(1000 * (time.perf_counter() - began))
    finally:
        await worker.stop()
        await working
    return sorted(milliseconds)


async def _run(settings: Settings, flows: int, concurrency: int) -> None:
    """Until the goodbye of the worker, which acknowledges the last outcome."""
    worker = Worker(settings=settings, pipelines=[chain], concurrency=concurrency)
    left, all_ran = flows, asyncio.Event()

    def count() -> None:
        nonlocal left
        left -= 1
        if not left:
            all_ran.set()

    with when_done(count):
        working = asyncio.create_task(worker.run())
        ended = asyncio.create_task(all_ran.wait())
        # A worker that ends by itself has failed, and says so when it is awaited.
        await asyncio.wait({working, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        await worker.stop()
        await working


async def _memory(backend: Backend) -> int | None:
    """Bytes of data on all servers; None: who asks may not know, or one of them does not say."""
    try:
        told = await backend.store.connection.on_each("INFO", "memory")
    except ServerError:
        return None
    sizes = [cast("dict[str, object]", one).get("used_memory_dataset") if isinstance(one, dict) else None for one in told]
    known = [size for size in sizes if isinstance(size, int)]
    return sum(known) if len(known) == len(sizes) else None


def _each(before: int | None, after: int | None, flows: int) -> float | None:
    return None if before is None or after is None else max(0.0, (after - before) / flows)


async def _remove(producer: FlowProducer, backend: Backend, hours: Iterable[int]) -> None:
    """All flows, then what a namespace keeps without any, and the lists of what has completed in these hours since 1970."""
    await producer.cancel(pipeline=chain.name)
    await producer.prune(pipeline=chain.name)
    keys, connection = backend.store.keys, backend.store.connection
    for tag in keys.tags:
        kept = [tag + word for word in PERMANENT if word[0] == ":" and word[-1] != ":"]
        await connection.command("UNLINK", *kept, *(f"{tag}{FINISHED}{hour}" for hour in hours))
    await connection.command("UNLINK", keys.meta)
