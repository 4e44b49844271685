"""A stage that waits for another flow says so if that one is paused."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, context, pipeline, stage
from flowq.model.snapshot import FlowSnapshot
from tests.engine.work import until, working

pytestmark = pytest.mark.anyio


@stage
async def po_asks(number: int) -> int:
    return number + await context().wait_for_signal("more", int)


@stage
async def po_spawns(numbers: list[int]) -> int:
    return await context().spawn(po_asks, numbers[0])


@stage
async def po_list(count: int) -> list[list[int]]:
    return [[number] for number in range(count)]


@pipeline
def po_mapped(count: int) -> list[int]:
    return po_spawns.map(po_list(count))


@stage(cache="1h")
async def po_computes(number: int) -> int:
    return number + await context().wait_for_signal("more", int)


EVERY = (po_asks, po_spawns, po_list, po_computes)


async def sentence(flow: FlowHandle[Any], stage: str, code: str) -> str:
    """Why the stage does not run, once it is for this reason."""

    def waits(snapshot: FlowSnapshot) -> bool:
        reason = snapshot.stage(stage).reason
        return reason is not None and reason.code == code

    reason = (await until(flow, waits)).stage(stage).reason
    assert reason is not None
    return reason.sentence


async def test_who_waits_for_a_spawned_flow_says_that_it_is_paused(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(po_spawns.flow([1]))
        await until(flow, lambda snapshot: [child.state for child in snapshot.spawned] == ["suspended"])
        (child,) = (await flow.inspect()).spawned
        plain = f"waits for flow {child.id}, which it spawned"
        assert await sentence(flow, "po_spawns", "spawned") == plain
        await producer.flow(child.id).pause()
        assert await sentence(flow, "po_spawns", "spawned") == f"{plain}; flow {child.id} is paused"
        await producer.flow(child.id).resume()
        assert await sentence(flow, "po_spawns", "spawned") == plain


async def test_so_do_the_items_of_a_map(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(po_mapped(1))

        def waits(snapshot: FlowSnapshot) -> bool:
            items = snapshot.stage("po_spawns").items
            return items is not None and items.suspended == 1

        (child,) = (await until(flow, waits)).spawned
        await producer.flow(child.id).pause()
        items = (await flow.inspect()).stage("po_spawns").items
        assert items is not None
        (reason,) = (item.reason for item in items.listed)
        assert reason is not None
        assert reason.sentence.endswith(f"; flow {child.id} is paused")


async def test_who_waits_for_what_another_flow_computes_says_that_it_is_paused(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        first = await producer.add(po_computes.flow(1))
        await until(first, lambda snapshot: snapshot.state == "suspended")
        second = await producer.add(po_computes.flow(1))
        plain = f"flow {first.id} computes the same; waits for it"
        assert await sentence(second, "po_computes", "cache_pending") == plain
        await first.pause()
        assert await sentence(second, "po_computes", "cache_pending") == f"{plain}; flow {first.id} is paused"
