"""One item of a map runs again because it is named, where others did not complete because they were not needed."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence

import pytest

from flowq import Backoff, FlowProducer, Unrecoverable, pipeline, stage
from flowq.engine.flow.handle import FlowHandle
from flowq.errors import FlowFailed
from flowq.pipeline import Pipeline
from tests.engine.work import until, working

pytestmark = pytest.mark.anyio

ran = Counter[int]()
broken: set[int] = set()
# Who may return; others wait until they are stopped.
quick: set[int] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing has run, and item 0 returns at once."""
    ran.clear()
    broken.clear()
    quick.clear()
    quick.add(0)


@stage
async def oa_list(count: int) -> list[int]:
    return list(range(count))


@stage(backoff=Backoff.none())
async def oa_item(number: int) -> int:
    ran[number] += 1
    if number in broken:
        raise Unrecoverable(f"item {number} is broken")
    if number not in quick:
        await asyncio.Event().wait()
    return number


@stage
async def oa_use(numbers: list[int]) -> list[int]:
    return numbers


@pipeline
def oa_any(count: int) -> list[int]:
    return oa_use(oa_item.with_options(need="any").map(oa_list(count)))


@pipeline
def oa_narrow(count: int) -> list[int]:
    return oa_use(oa_item.with_options(need="any", at_once=1).map(oa_list(count)))


STAGES = (oa_list, oa_item, oa_use)


async def item_states(flow: FlowHandle[list[int]]) -> Sequence[str]:
    """The states of the map's items."""
    return [item.state for item in await flow.items("oa_item")]


@pytest.mark.parametrize("make", [oa_any, oa_narrow])
async def test_an_item_that_was_not_needed_runs_again_alone_when_it_is_named(
    producer: FlowProducer, make: Pipeline[[int], list[int]]
) -> None:
    async with working(producer, *STAGES):
        flow = await producer.add(make(6))
        assert await flow.result(30) == [0]
        await until(flow, lambda seen: seen.graph[1].items is not None and seen.graph[1].items.running == 0)
        ran.clear()
        quick.add(3)
        assert await flow.retry(from_stage="oa_item[3]") == 2, "the item, and what uses the list"
        assert await flow.result(30) == [0, 3]
        assert await flow.result(run=1) == [0]
        snapshot = await flow.inspect()
    assert ran == {3: 1}
    assert await item_states(flow) == ["completed", "cancelled", "cancelled", "completed", "cancelled", "cancelled"]
    items = snapshot.stage("oa_item").items
    assert items is not None
    assert (items.completed, items.failed, items.waiting, items.running) == (2, 0, 0, 0)


async def test_while_one_runs_again_alone_the_others_are_shown_as_they_ended(producer: FlowProducer) -> None:
    async with working(producer, *STAGES):
        flow = await producer.add(oa_any(4))
        assert await flow.result(30) == [0]
        await flow.retry(from_stage="oa_item[2]")
        snapshot = await until(flow, lambda seen: seen.graph[1].items is not None and seen.graph[1].items.running == 1)
        assert await item_states(flow) == ["completed", "cancelled", "running", "cancelled"]
        items = snapshot.stage("oa_item").items
        assert items is not None
        assert (items.completed, items.running, items.waiting, items.failed) == (1, 1, 0, 0)
        await flow.cancel()


async def test_the_item_that_completed_runs_again_alone_too(producer: FlowProducer) -> None:
    async with working(producer, *STAGES):
        flow = await producer.add(oa_any(4))
        assert await flow.result(30) == [0]
        ran.clear()
        await flow.retry(from_stage="oa_item[0]")
        assert await flow.result(30) == [0]
    assert ran == {0: 1}


async def test_a_named_item_that_fails_fails_the_map_and_a_retry_runs_it_again_alone(producer: FlowProducer) -> None:
    broken.add(3)
    async with working(producer, *STAGES):
        flow = await producer.add(oa_narrow(5))
        assert await flow.result(30) == [0]
        ran.clear()
        await flow.retry(from_stage="oa_item[3]")
        with pytest.raises(FlowFailed, match=r"oa_item\[3\]"):
            await flow.result(30)
        broken.clear()
        quick.add(3)
        await flow.retry()
        assert await flow.result(30) == [0, 3]
        assert await flow.result(run=1) == [0]
    assert ran == {3: 2}


async def test_the_whole_map_runs_again_when_it_is_named(producer: FlowProducer) -> None:
    async with working(producer, *STAGES):
        flow = await producer.add(oa_narrow(3))
        assert await flow.result(30) == [0]
        quick.add(2)
        await flow.retry(from_stage="oa_item[2]")
        assert await flow.result(30) == [0, 2]
        await flow.retry(from_stage="oa_item")
        assert await flow.result(30) == [0]
        assert await flow.result(run=2) == [0, 2]


async def test_an_item_that_failed_counts_once_when_it_is_named(producer: FlowProducer) -> None:
    @pipeline
    def oa_all(count: int) -> list[int]:
        return oa_use(oa_item.with_options(at_once=1).map(oa_list(count)))

    broken.add(1)
    quick.update({1, 2})
    async with working(producer, *STAGES):
        flow = await producer.add(oa_all(3))
        for number in (1, 2, 0):
            with pytest.raises(FlowFailed):
                await flow.result(30)
            states = await item_states(flow)
            again = sum(state != "completed" for state in states) + (states[number] == "completed")
            assert await flow.retry(from_stage=f"oa_item[{number}]") == again, states
        with pytest.raises(FlowFailed):
            await flow.result(30)
