"""What is short is had in turns: a single flow does not wait until the backlog of others is over."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowProducer, RetryAfter, stage
from flowq.pipeline.stage import AnyStage
from tests.conformance.scene import gate
from tests.engine.work import working

pytestmark = pytest.mark.anyio

BACKLOG = 100
SLOTS: dict[str, Any] = {"queues": {"turns": 1, "turns-too": 1}}
CARD: dict[str, Any] = {"has": {"card": 1}}


@stage(queue="turns", attempts=100)
async def crt_many(number: int) -> int:
    return _again(number)


@stage(queue="turns")
async def crt_one(number: int) -> int:
    return number


@stage(queue="turns", needs={"card": 1}, attempts=100)
async def crt_needy(number: int) -> int:
    return _again(number)


@stage(queue="turns-too", needs={"card": 1})
async def crt_needy_too(number: int) -> int:
    return number


def _again(number: int) -> int:
    """Of the backlog there is always one that waits until the gate is open: for some 10,000 runs."""
    gate.arrived.set()
    if number < BACKLOG and not gate.opened.is_set():
        raise RetryAfter(0)
    return number


@pytest.mark.parametrize("tenants", [("",), ("t",), ("", "t")], ids=["no tenants", "one tenant", "a tenant beside none"])
@pytest.mark.parametrize("concurrency", [2, 10])
@pytest.mark.parametrize(
    ("many", "one", "shared"),
    [(crt_many, crt_one, SLOTS), (crt_needy, crt_needy_too, CARD), (crt_needy, crt_needy, CARD), (crt_many, crt_many, SLOTS)],
    ids=["stages of a queue", "queues that need room", "partitions that need room", "partitions of a queue"],
)
async def test_a_single_flow_has_its_turn(
    producer: FlowProducer, many: AnyStage, one: AnyStage, shared: dict[str, Any], concurrency: int, tenants: tuple[str, ...]
) -> None:
    """Of one stage in one partition who came first is first: that is no wait for a turn."""
    async with working(producer, many, one, concurrency=concurrency, **shared):
        await _a_single_flow_has_its_turn(producer, many, one, tenants)


@pytest.mark.parametrize("concurrency", [2, 10])
@pytest.mark.parametrize("limits", [["queue:turns"], ["tenant:t"], ["tenant:t", "queue:turns"]], ids=" and ".join)
async def test_a_permit_goes_to_the_partition_that_lacks_one(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch, limits: list[str], concurrency: int
) -> None:
    """Within a process it does not wait for the turns of processes."""
    monkeypatch.setattr("flowq.engine.exchange.permits.TURN_SECONDS", 1e6)
    for limit in limits:
        await producer.set_limit(limit, concurrency=1)
    async with working(producer, crt_many, concurrency=concurrency):
        await _a_single_flow_has_its_turn(producer, crt_many, crt_many, ("t",))


async def _a_single_flow_has_its_turn(producer: FlowProducer, many: AnyStage, one: AnyStage, tenants: tuple[str, ...]) -> None:
    store = producer._open.store
    tags = (store.partitions[0], store.partitions[-1])
    if many is one and tags[0] == tags[1]:
        return

    def ids(tag: str) -> list[str]:
        return [f"f{number}" for number in range(6 * BACKLOG) if store.keys.tag_of(f"f{number}") == tag]

    flows = [
        await producer.add(many.flow(number), id=ids(tags[0])[number], tenant=tenants[number % len(tenants)])
        for number in range(BACKLOG)
    ]
    await gate.until_arrived()
    assert await (await producer.add(one.flow(BACKLOG), id=ids(tags[1])[-1], tenant=tenants[0])).result(30) == BACKLOG
    gate.opened.set()
    assert [await flow.result(30) for flow in flows] == list(range(BACKLOG))
