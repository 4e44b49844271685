"""Stages with a cache that are suspended, take limits, belong to tenants, or spawn: what they hold, and who computes."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, RetryAfter, context, limit, pipeline, stage
from flowq.engine.run import policy
from flowq.errors import FlowFailed
from flowq.model.memo import Mark
from flowq.model.snapshot import FlowSnapshot, Reused
from flowq.store.memos import look_at
from tests.conformance.scene import broken, gate, ran
from tests.engine.work import until, working

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("only_when_told")]


@stage(cache="1h")
async def rm_asks(number: int) -> int:
    ran[f"asks {number}"] += 1
    return number + await context().wait_for_signal("more", int)


@pipeline
def rm_all(numbers: list[int]) -> list[int]:
    return rm_asks.with_options(at_once=2).map(numbers)


@stage(cache="1h", limits=[limit("model")], queue="desk")
async def rm_held(number: int) -> int:
    ran[f"held {number}"] += 1
    if number == 1:
        await gate.stop_async()
    return number


@stage(cache="1h")
async def rm_busy(number: int) -> int:
    ran["busy"] += 1
    if ran["busy"] == 1:
        await gate.stop_async()
        raise RuntimeError("it fails once")
    if "service" in broken:
        broken.discard("service")
        raise RetryAfter("1ms", uses_attempt=False)
    return number


@stage(cache="1h")
async def rm_part(number: int) -> int:
    ran["part"] += 1
    return number


@stage
async def rm_whole(number: int) -> int:
    return await context().spawn(rm_part, number)


@stage(cache="1h")
async def rm_circle(number: int) -> int:
    ran["circle"] += 1
    return await context().spawn(rm_circle, number)


async def waits(flow: FlowHandle[Any]) -> FlowSnapshot:
    """Its only stage waits for another that computes the same."""

    def is_waiting(snapshot: FlowSnapshot) -> bool:
        reason = snapshot.stage(snapshot.pipeline).reason
        return reason is not None and reason.code == "cache_pending"

    return await until(flow, is_waiting)


async def suspends(flow: FlowHandle[Any]) -> FlowSnapshot:
    """Its only stage is suspended."""
    return await until(flow, lambda snapshot: snapshot.stage(snapshot.pipeline).state == "suspended")


async def test_while_one_that_computes_is_suspended_the_others_wait(producer: FlowProducer) -> None:
    async with working(producer, rm_asks):
        first = await producer.add(rm_asks.flow(1))
        await suspends(first)
        others = [await producer.add(rm_asks.flow(1), tenant=tenant) for tenant in ("ada", "bob", "")]
        for flow in others:
            await waits(flow)
        await first.signal("more", 5)
        assert [await flow.result(30) for flow in (first, *others)] == [6] * 4
    assert ran == {"asks 1": 2}
    for flow in others:
        assert (await flow.inspect()).stage("rm_asks").reused == Reused(first.id, "rm_asks")


async def test_when_the_suspended_one_is_cancelled_the_next_one_computes(producer: FlowProducer) -> None:
    # No worker has it, so none tells the others: who put them back looks after it.
    async with working(producer, rm_asks):
        first = await producer.add(rm_asks.flow(1))
        await suspends(first)
        second = await producer.add(rm_asks.flow(1))
        await waits(second)
        await first.cancel()
        await suspends(second)
        third = await producer.add(rm_asks.flow(1))
        await waits(third)
        await second.signal("more", 2)
        assert (await second.result(30), await third.result(30)) == (3, 3)
    assert ran == {"asks 1": 3}


async def test_one_that_may_go_on_still_computes_unless_its_flow_is_paused(producer: FlowProducer) -> None:
    async with working(producer, rm_asks):
        flow = await producer.add(rm_asks.flow(1))
        await suspends(flow)
    await flow.signal("more", 5)
    assert (await flow.inspect()).stage("rm_asks").state == "ready"
    store, mark = producer._open.store, Mark(flow.id, 0, 1, "rm_asks")
    assert await look_at(store, mark) is True
    await flow.pause()
    assert await look_at(store, mark) is False


async def test_items_of_a_map_wait_for_one_that_is_suspended(producer: FlowProducer) -> None:
    async with working(producer, rm_asks, concurrency=2):
        flow = await producer.add(rm_all([3, 3, 4]))

        def are_settled(snapshot: FlowSnapshot) -> bool:
            items = snapshot.stage("rm_asks").items
            return items is not None and items.completed == 0 and ran["asks 3"] == 1

        await until(flow, are_settled)
        await flow.signal("more", 1)
        assert await flow.result(30) == [4, 4, 5]
    assert ran["asks 3"] == 2


async def test_who_waits_gives_its_permits_back(producer: FlowProducer) -> None:
    await producer.set_limit("model", concurrency=2)
    await producer.set_limit("queue:desk", concurrency=2)
    async with working(producer, rm_held):
        first = await producer.add(rm_held.flow(1))
        await gate.until_arrived()
        second = await producer.add(rm_held.flow(1))
        await waits(second)
        # Of two places one is free, because only one of those that were claimed runs.
        assert await (await producer.add(rm_held.flow(2))).result(30) == 2
        gate.opened.set()
        assert (await first.result(30), await second.result(30)) == (1, 1)
    assert ran == {"held 1": 1, "held 2": 1}


async def test_what_is_reused_waits_for_no_limit(producer: FlowProducer) -> None:
    await producer.set_limit("model", concurrency=1)
    async with working(producer, rm_held):
        assert await (await producer.add(rm_held.flow(2))).result(30) == 2
        holds = await producer.add(rm_held.flow(1))
        await gate.until_arrived()
        again = await producer.add(rm_held.flow(2))
        assert await again.result(30) == 2
        gate.opened.set()
        await holds.result(30)
    assert ran == {"held 1": 1, "held 2": 1}


async def test_looking_uses_up_no_free_retry(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "FREE_RETRIES_MAX", 0)
    async with working(producer, rm_busy):
        first = await producer.add(rm_busy.flow(1))
        await gate.until_arrived()
        second = await producer.add(rm_busy.flow(1))
        await waits(second)
        broken.add("service")
        gate.opened.set()
        with pytest.raises(FlowFailed):
            await first.result(30)
        assert await second.result(30) == 1
    assert ran == {"busy": 3}


async def test_without_cache_spawned_flows_run_too(producer: FlowProducer) -> None:
    async with working(producer, rm_whole, rm_part):
        for use in (True, True, False):
            assert await (await producer.add(rm_whole.flow(1), cache=use)).result(30) == 1
    assert ran == {"part": 2}


async def test_a_stage_that_spawns_itself_does_not_wait_for_itself(producer: FlowProducer) -> None:
    async with working(producer, rm_circle):
        flow = await producer.add(rm_circle.flow(1))
        with pytest.raises(FlowFailed, match="SpawnedTooDeep"):
            await flow.result(60)
    assert ran["circle"] > 2
