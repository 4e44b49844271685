"""What ended stages leave in memory: nothing that only Python's collector of garbage can take away.

Circles of objects cost a worker up to a quarter of its time, and now and then stop it for tens of milliseconds: they are counted.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from flowq import FlowProducer, context, pipeline, stage
from flowq.errors import FlowqError
from flowq.pipeline import Stage
from flowq.pipeline.stage import AnyStage
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio

FLOWS = 30


@stage
async def tg_async(word: str) -> str:
    """Does nothing."""
    return word


@stage
def tg_plain(word: str) -> str:
    """Does nothing, in a thread."""
    return word


@stage(timeout="1m")
async def tg_timed(word: str) -> str:
    """Could run out of time."""
    return word


@stage(timeout="1m", stall="30s")
def tg_timed_plain(word: str) -> str:
    """The same in a thread."""
    context().progress(0.5, "half")
    return word


@stage(attempts=1)
async def tg_failing(word: str) -> str:
    """Fails."""
    raise ValueError(word)


@stage(attempts=1)
def tg_failing_plain(word: str) -> str:
    """Fails, in a thread."""
    raise ValueError(word)


@stage
async def tg_telling(word: str) -> str:
    """Tells progress and what it used, and writes an artifact."""
    context().progress(0.5, "half")
    context().usage(words=1)
    async with context().new_artifact("word.txt") as sink:
        await sink.write(word.encode())
    return word


@stage
async def tg_sleeping(word: str) -> str:
    """Is suspended until a time."""
    await context().sleep("0.15s")
    return word


@stage
async def tg_signalled(word: str) -> str:
    """Is suspended until a time, as no signal comes."""
    return await context().wait_for_signal("go", str, "0.15s", default=word)


@stage
async def tg_spawning(word: str) -> str:
    """Is suspended until a flow beneath it has ended."""
    return await context().spawn(tg_async, word)


@stage
def tg_words(word: str) -> list[str]:
    """What is mapped."""
    return [word] * 5


@stage
def tg_count(words: list[str]) -> int:
    """Ends a map."""
    return len(words)


@pipeline
def tg_map(word: str) -> int:
    """A map."""
    return tg_count(tg_async.map(tg_words(word)))


STAGES: list[AnyStage] = [
    tg_async, tg_plain, tg_timed, tg_timed_plain, tg_failing, tg_failing_plain, tg_telling, tg_sleeping, tg_signalled,
    tg_spawning,
]  # fmt: skip


@pytest.fixture(autouse=True)
def no_collection() -> Iterator[None]:
    """Only the test collects."""
    gc.disable()
    yield
    gc.enable()


async def run(producer: FlowProducer, what: Any, flows: int) -> None:
    """Runs so many flows of it to their ends."""
    added = [await producer.add(what.flow("word") if isinstance(what, Stage) else what("word")) for _ in range(flows)]
    for ended in await asyncio.gather(*(outcome(flow) for flow in added)):
        assert not isinstance(ended, FlowqError) or "tg_failing" in what.name


@pytest.mark.parametrize("what", [*STAGES, tg_map], ids=lambda what: what.name)
async def test_a_stage_leaves_no_circles_of_objects(producer: FlowProducer, what: Any) -> None:
    async with working(producer, *STAGES, tg_words, tg_count, concurrency=10):
        await run(producer, what, 3)  # what is made once
        gc.collect()
        await run(producer, what, FLOWS)
        found = gc.collect()
    assert found < FLOWS, f"{found / FLOWS:.0f} objects of each flow wait for the collector of garbage: find what knows itself"
