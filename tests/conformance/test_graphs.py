"""Graphs that are no trees, wide ones and long ones."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, context, pipeline, stage
from tests.conformance.scene import ran
from tests.engine.work import told, working

pytestmark = pytest.mark.anyio


@stage
async def cg_leaf(number: int) -> int:
    ran[context().stage] += 1
    return number


@stage
async def cg_add(left: int, right: int) -> int:
    ran[context().stage] += 1
    return left + right


@stage
async def cg_next(number: int) -> int:
    return number + 1


@stage
async def cg_sum(numbers: list[int]) -> int:
    ran["cg_sum"] += 1
    return sum(numbers)


@pipeline
def cg_lattice(width: int, depth: int) -> int:
    """Every stage of a layer has two parents in the next."""
    layer = [cg_leaf(number) for number in range(width)]
    for _ in range(depth):
        layer = [cg_add(one, layer[(position + 1) % width]) for position, one in enumerate(layer)]
    return cg_sum(layer)


@pipeline
def cg_one_for_many(width: int) -> int:
    shared = cg_leaf(3)
    return cg_sum([cg_add(shared, cg_leaf(number)) for number in range(width)])


@pipeline
def cg_wide(width: int) -> int:
    return cg_sum([cg_leaf(number) for number in range(width)])


@pipeline
def cg_long(length: int) -> int:
    number = cg_leaf(0)
    for _ in range(length):
        number = cg_next(number)
    return number


EVERY = (cg_leaf, cg_add, cg_next, cg_sum)


async def test_a_stage_with_many_parents_runs_once_and_releases_them_all(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_one_for_many(40))
        assert await flow.result(30) == 40 * 3 + sum(range(40))
    assert ran["cg_leaf"] == 1
    assert ran["cg_sum"] == 1


async def test_in_a_lattice_every_stage_runs_once_and_after_both_its_children(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_lattice(6, 5))
        assert await flow.result(30) == sum(range(6)) * 2**5
        snapshot = await flow.inspect()
        events = await told(flow)
    assert set(ran.values()) == {1}
    at = {event: position for position, event in enumerate(events)}
    for parent in snapshot.graph:
        for child in parent.children:
            assert at[f"completed {child}"] < at[f"claimed {parent.name}"]


async def test_a_stage_may_wait_for_thousands(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=200):
        assert await (await producer.add(cg_wide(3_000))).result(60) == sum(range(3_000))


async def test_a_chain_may_be_long(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_long(600))
        assert await flow.result(60) == 600
        assert (await flow.inspect()).done == 601
