"""What is short is had in turns: a single flow does not wait until the backlog of others is over."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowProducer, stage
from flowq.pipeline.stage import AnyStage
from tests.conformance.scene import busy, gate, order
from tests.engine.work import working

pytestmark = pytest.mark.anyio

BACKLOG = 120
SLOTS: dict[str, Any] = {"queues": {"turns": 1, "turns-too": 1}}
CARD: dict[str, Any] = {"has": {"card": 1}}


@stage(queue="turns")
async def crt_many(number: int) -> int:
    return await _noted("many", number)


@stage(queue="turns")
async def crt_one(number: int) -> int:
    return await _noted("one", number)


@stage(queue="turns", needs={"card": 1})
async def crt_needy(number: int) -> int:
    return await _noted("many", number)


@stage(queue="turns-too", needs={"card": 1})
async def crt_needy_too(number: int) -> int:
    return await _noted("one", number)


async def _noted(name: str, number: int) -> int:
    if number == 0:
        await gate.stop_async()
    await busy()
    order.append(name)
    return number


@pytest.mark.parametrize("concurrency", [2, 10])
@pytest.mark.parametrize(
    ("many", "one", "shared"),
    [(crt_many, crt_one, SLOTS), (crt_needy, crt_needy_too, CARD), (crt_needy, crt_needy, CARD), (crt_many, crt_many, SLOTS)],
    ids=["stages of a queue", "queues that need room", "partitions that need room", "partitions of a queue"],
)
async def test_a_single_flow_has_its_turn(
    producer: FlowProducer, many: AnyStage, one: AnyStage, shared: dict[str, Any], concurrency: int
) -> None:
    """Of one stage in one partition who came first is first: that is no wait for a turn."""
    store = producer._open.store
    tags = (store.partitions[0], store.partitions[-1])
    if many is one and tags[0] == tags[1]:
        return

    def ids(tag: str) -> list[str]:
        return [f"f{number}" for number in range(6 * BACKLOG) if store.keys.tag_of(f"f{number}") == tag]

    async with working(producer, many, one, concurrency=concurrency, **shared):
        flows = [await producer.add(many.flow(number), id=ids(tags[0])[number]) for number in range(BACKLOG)]
        await gate.until_arrived()
        single = await producer.add(one.flow(BACKLOG), id=ids(tags[1])[-1])
        gate.opened.set()
        assert await single.result(30) == BACKLOG
        assert len(order) < BACKLOG, "most of the backlog still waits"
        assert [await flow.result(30) for flow in flows] == list(range(BACKLOG))
