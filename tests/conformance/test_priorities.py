"""Which stage is begun next."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, context, pipeline, stage
from flowq.pipeline import Pipeline
from tests.conformance.scene import order
from tests.engine.waiting import in_the_end
from tests.engine.work import PATIENCE, working

pytestmark = pytest.mark.anyio


@stage
async def co_step(number: int) -> int:
    order.append(f"{context().stage} of {context().flow_id}")
    return number


@stage
async def co_split(count: int) -> list[int]:
    return list(range(count))


@pipeline(finish_first=True)
def co_finishing(number: int) -> int:
    return co_step.with_options(name="third")(co_step.with_options(name="second")(co_step(number)))


@pipeline
def co_plain(number: int) -> int:
    return co_step.with_options(name="second")(co_step(number))


@pipeline
def co_wide(count: int) -> list[int]:
    return co_step.with_options(name="item").map(co_split(count))


def in_one_partition(producer: FlowProducer, count: int) -> list[str]:
    keys = producer._open.store.keys
    return [flow_id for number in range(1000) if keys.tag_of(flow_id := f"flow-{number}") == keys.tags[0]][:count]


async def ran(producer: FlowProducer, made: Pipeline[[int], int], count: int, *, concurrency: int) -> list[str]:
    """Runs so many flows, added one after the other; gives their ids."""
    ids = in_one_partition(producer, count)
    flows = [await producer.add(made(number), id=flow_id) for number, flow_id in enumerate(ids)]
    async with working(producer, co_step, concurrency=concurrency):
        for flow in flows:
            await flow.result(PATIENCE)
    return ids


async def test_a_flow_that_has_begun_is_finished_first_where_its_pipeline_says_so(producer: FlowProducer) -> None:
    ids = await ran(producer, co_finishing, 3, concurrency=1)
    assert order == [f"{name} of {flow_id}" for flow_id in ids for name in ("co_step", "second", "third")]


async def test_flows_are_begun_in_the_order_in_which_they_came(producer: FlowProducer) -> None:
    ids = await ran(producer, co_plain, 5, concurrency=1)
    for name in ("co_step", "second"):
        assert [told for told in order if told.startswith(f"{name} ")] == [f"{name} of {flow_id}" for flow_id in ids]


async def test_flows_that_have_begun_go_before_others(producer: FlowProducer) -> None:
    ids = await ran(producer, co_plain, 40, concurrency=10)
    assert order.index(f"second of {ids[0]}") < order.index(f"co_step of {ids[-1]}")


async def test_a_flow_that_has_not_begun_does_not_wait_for_all_that_have(producer: FlowProducer) -> None:
    wide, late = in_one_partition(producer, 2)
    async with working(producer, co_step, co_split, concurrency=5):
        flow = await producer.add(co_wide(500), id=wide)

        async def has_items() -> bool:
            return len(order) > 10

        await in_the_end(has_items)
        await (await producer.add(co_step.flow(1), id=late)).result(PATIENCE)
        await flow.result(PATIENCE)
    assert order.index(f"co_step of {late}") < len(order) - 100


async def test_a_larger_priority_goes_before_a_flow_that_has_begun(producer: FlowProducer) -> None:
    low, high = in_one_partition(producer, 2)
    flows = [await producer.add(co_finishing(1), id=low), await producer.add(co_finishing(2), id=high, priority=1)]
    async with working(producer, co_step, concurrency=1):
        for flow in flows:
            await flow.result(PATIENCE)
    assert order == [f"{name} of {flow_id}" for flow_id in (high, low) for name in ("co_step", "second", "third")]


async def test_a_flow_that_finishes_first_can_be_inspected_and_retried(producer: FlowProducer) -> None:
    async with working(producer, co_step):
        flow = await producer.add(co_finishing(1))
        assert await flow.result(PATIENCE) == 1
        assert await flow.retry(from_stage="second") == 2
        assert await flow.result(PATIENCE) == 1
    assert (await flow.inspect()).state == "completed"
