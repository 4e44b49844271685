"""What `flowq bench` measures: chains of four stages that do nothing, in a namespace of their own that is removed afterwards.

Producer and worker are those that users have, in this process, with everything at its default. Other work on the same server
is not disturbed more than by any other application, and disturbs the figures.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from typing import cast

import msgspec

from flowq.cli.usage import FlowsLost
from flowq.engine.backend import Backend
from flowq.engine.client.producer import FlowProducer
from flowq.engine.worker.worker import Worker
from flowq.errors import FlowNotFound, ServerError
from flowq.pipeline import pipeline, stage
from flowq.settings import Settings
from flowq.store.emptying import check_removable, remove_namespace
from flowq.store.ending import end
from flowq.store.keys import LIVE

STAGES = 4

_WARM_FLOWS = 20
_ALONE_SECONDS_MAX = 60.0
# So long no chain has come to its end when the server is asked whether it still has them.
_SILENT_SECONDS_MAX = 1.0
# Where the server was out of reach already, it is not waited for once more to remove what is there.
_LAST_PATIENCE_SECONDS = 1.0
# Of fewer nobody knows within what time 99 of 100 are.
_HUNDRED = 100

_when_done: list[Callable[[str], None]] = []


def key_of(number: int) -> str:
    """What a chain hands from stage to stage, as long for each: the place of an artifact."""
    return f"s3://media/flows/{number:016}/source/1-00000000/video.mp4"


KEY = key_of(0)


class Measured(msgspec.Struct, frozen=True):
    """What was found.

    Attributes:
        flows, concurrency: how many chains were added and run in bulk, and how many of their stages at once.
        submit: flows added in a second.
        run: stages run in a second, from the start of the worker to its goodbye.
        submit_and_run: flows in a second, one after the other.
        alone_p50_ms, alone_p99_ms, alone_max_ms: one chain on an idle worker, from `add` to its result: half of them took no
            longer, 99 of 100 (None: fewer than 100 were run), all.
        waiting_bytes, completed_bytes: what a chain takes of the server's memory; None: the server does not tell.
    """

    flows: int
    concurrency: int
    submit: float
    run: float
    submit_and_run: float
    alone_p50_ms: float
    alone_p99_ms: float | None
    alone_max_ms: float
    waiting_bytes: float | None
    completed_bytes: float | None


@contextlib.contextmanager
def when_done(callback: Callable[[str], None]) -> Generator[None]:
    """Calls back in the worker, with the chain's key, whenever the last stage of a chain runs, until the block ends."""
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
        callback(key)
    return key


@pipeline
def chain(key: str) -> str:
    """Four stages, one after the other."""
    return bench_fourth(bench_third(bench_second(bench_first(key))))


async def measure(settings: Settings, *, flows: int, alone: int, concurrency: int) -> Measured:
    """Measures on the server of the settings, and leaves nothing there, also if it is cancelled.

    Args:
        settings: where the server is, and a namespace that nobody else uses: it is removed.
        flows: how many chains are added and run in bulk.
        alone: how many are run one after the other.
        concurrency: how many stages run at once.

    Raises:
        FlowsLost: the server has lost some of the chains, or what was written beside them.
        ServerNotConfigured, ServerError, EmbeddedError, InvalidValue: see `FlowProducer` and `Worker`.
    """
    async with _emptied(settings) as backend, FlowProducer(settings=settings) as producer:
        known = await _instance(backend)
        milliseconds = await _alone(producer, settings, backend, known, alone, concurrency)
        empty = await _memory(backend)
        submit_seconds = await _seconds(producer.add_bulk(chain(key_of(number)) for number in range(flows)))
        waiting = await _memory(backend)
        run_seconds = await _seconds(_run(settings, backend, flows, concurrency))
        completed = await _memory(backend)
        await _check_kept(backend, known, [])
    return Measured(
        flows, concurrency, flows / submit_seconds, flows * STAGES / run_seconds, flows / (submit_seconds + run_seconds),
        statistics.median(milliseconds), within_99_of_100(milliseconds), milliseconds[-1],
        _each(empty, waiting, flows), _each(empty, completed, flows),
    )  # fmt: skip


def within_99_of_100(ordered: Sequence[float]) -> float | None:
    """The least of the values that 99 of 100 are not above; None: there are too few to tell."""
    return ordered[math.ceil(0.99 * len(ordered)) - 1] if len(ordered) >= _HUNDRED else None


@contextlib.asynccontextmanager
async def _emptied(settings: Settings) -> AsyncGenerator[Backend]:
    """A connection beside the producer's: to ask for the memory, and to remove the namespace however the block ends."""
    # Who is cancelled while it opens would not know what it has written already.
    opening = asyncio.create_task(Backend.open(settings, name="flowq:bench", connections=1, with_storage=False))
    is_reached = True
    try:
        backend = await asyncio.shield(opening)
        await check_removable(backend.store.connection)
        yield backend
    except ServerError:
        is_reached = False
        raise
    finally:
        backend = await opening
        try:
            if not is_reached:
                backend.store.connection.patience = _LAST_PATIENCE_SECONDS
            await remove_namespace(backend.store.connection, settings.namespace)
        finally:
            await backend.close()


async def _seconds(work: Awaitable[object]) -> float:
    began = time.perf_counter()
    await work
    return time.perf_counter() - began


async def _alone(
    producer: FlowProducer, settings: Settings, backend: Backend, known: object, flows: int, concurrency: int
) -> list[float]:
    """Milliseconds of each, sorted. What is read once, such as the plan, is read before."""
    worker, added = Worker(settings=settings, pipelines=[chain], concurrency=concurrency), list[str]()
    working = asyncio.create_task(worker.run())
    running = asyncio.create_task(_one_by_one(producer, _WARM_FLOWS + flows, added))
    watching = asyncio.create_task(_watched_keys(backend, known, added))
    try:
        await asyncio.wait({running, watching}, return_when=asyncio.FIRST_COMPLETED)
        if watching.done():
            await watching
        milliseconds = await running
        await _check_kept(backend, known, added)
    except FlowNotFound as error:
        raise FlowsLost(await _gone(backend, added), len(added)) from error
    finally:
        await end(running)
        await end(watching)
        await worker.stop()
        await working
    return sorted(milliseconds[_WARM_FLOWS:])


async def _one_by_one(producer: FlowProducer, flows: int, added: list[str]) -> list[float]:
    """Milliseconds of each; `added` gets its id."""
    milliseconds: list[float] = []
    for _ in range(flows):
        began = time.perf_counter()
        flow = await producer.add(chain(KEY))
        added.append(flow.id)
        await flow.result(_ALONE_SECONDS_MAX)
        milliseconds.append(1000 * (time.perf_counter() - began))
    return milliseconds


async def _instance(backend: Backend) -> object:
    """What the namespace got when it was made, and no other has."""
    return await backend.store.connection.command("HGET", backend.store.keys.meta, "instance")


async def _check_kept(backend: Backend, known: object, added: Sequence[str]) -> None:
    """Raises FlowsLost: the namespace is not that which it was."""
    if await _instance(backend) != known:
        raise FlowsLost(await _gone(backend, added), len(added))


async def _gone(backend: Backend, added: Sequence[str]) -> int:
    """How many of these chains are not there."""
    keys = backend.store.keys
    return (await backend.store.connection.commands(*(("EXISTS", keys.flow(flow_id)) for flow_id in added))).count(0)


async def _watched_keys(backend: Backend, known: object, added: Sequence[str]) -> None:
    """Never returns. Raises FlowsLost, ServerError: a worker that the server knows no more would wait for its lease to end."""
    while True:
        await asyncio.sleep(_SILENT_SECONDS_MAX)
        await _check_kept(backend, known, added)


async def _run(settings: Settings, backend: Backend, flows: int, concurrency: int) -> None:
    """Until the goodbye of the worker, which acknowledges the last outcome."""
    worker = Worker(settings=settings, pipelines=[chain], concurrency=concurrency)
    ran, all_ran = set[str](), asyncio.Event()

    def note(key: str) -> None:
        ran.add(key)  # a stage may run twice
        if len(ran) == flows:
            all_ran.set()

    with when_done(note):
        working = asyncio.create_task(worker.run())
        watching = asyncio.create_task(_watched(backend, flows, ran, all_ran))
        try:
            # A worker that ends by itself has failed, and says so when it is awaited.
            await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
            if watching.done():
                await watching
        finally:
            await end(watching)
            await worker.stop()
            await working


async def _watched(backend: Backend, flows: int, ran: set[str], all_ran: asyncio.Event) -> None:
    """Returns when all chains have run. Raises FlowsLost, ServerError: some never will."""
    connection, tags = backend.store.connection, backend.store.keys.tags
    before = 0
    while not all_ran.is_set():
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(all_ran.wait(), _SILENT_SECONDS_MAX)
        if len(ran) == before:
            live = sum(await connection.commands(*(("ZCARD", tag + LIVE) for tag in tags)))
            # Counted later than those that live, which are fewer all the time: the others are not there.
            if live < flows - len(ran):
                raise FlowsLost(flows - len(ran) - live, flows)
        before = len(ran)


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
