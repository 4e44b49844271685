"""Maps under what steers flows in time: delays, stall timeouts, pauses, deadlines, `finish_first`."""

from __future__ import annotations

import msgspec
import pytest

from flowq import Backoff, FlowHandle, FlowProducer, context, pipeline, stage
from flowq.errors import FlowCancelled, FlowDeadlinePassed
from flowq.model.snapshot import FlowSnapshot, ItemsSnapshot
from flowq.store.keys import CLOSING
from flowq.store.wire import Head
from tests.conformance.in_the_store import entries_aside, its_time_comes, put_aside
from tests.conformance.scene import gate, order, ran
from tests.engine.work import PATIENCE, until, working

pytestmark = pytest.mark.anyio


@stage
async def cw_count(count: int) -> list[int]:
    return list(range(count))


@stage
async def cw_held(number: int) -> int:
    ran[context().stage] += 1
    await gate.stop_async()
    return number


@stage(stall="200ms", attempts=2, backoff=Backoff.none())
async def cw_stalls(number: int) -> int:
    """Odd ones tell nothing for too long at the first attempt."""
    if number % 2 and context().attempt == 1:
        await gate.stop_async()
    return context().attempt


@stage
async def cw_step(number: int) -> int:
    order.append(f"{context().stage} of {context().flow_id}")
    return number


@stage
async def cw_sum(parts: list[int]) -> int:
    return sum(parts)


@pipeline
def cw_later(count: int) -> int:
    return cw_sum(cw_step.with_options(delay="1h").map(cw_count(count)))


@pipeline
def cw_later_first(count: list[int]) -> int:
    return cw_sum(cw_step.with_options(delay="1h").map(count))


@pipeline
def cw_stalling(count: int) -> list[int]:
    return cw_stalls.map(cw_count(count))


@pipeline
def cw_open(count: int) -> int:
    return cw_sum(cw_held.map(cw_count(count)))


@pipeline
def cw_bounded(count: int) -> int:
    return cw_sum(cw_held.with_options(at_once=2).map(cw_count(count)))


@pipeline(finish_first=True)
def cw_finishing(numbers: list[int]) -> list[int]:
    return cw_step.map(numbers)


EVERY = (cw_count, cw_held, cw_stalls, cw_step, cw_sum)


async def its_deadline_passes(producer: FlowProducer, flow: FlowHandle[int]) -> None:
    """The deadline of a flow whose stages all run or wait is over."""
    store = producer._open.store
    key = store.keys.flow(flow.id)
    head = msgspec.msgpack.decode(await store.connection.command("HGET", key, "m"), type=Head)
    await store.connection.command("HSET", key, "m", msgspec.msgpack.encode(msgspec.structs.replace(head, deadline_at=1)))
    assert await its_time_comes(producer, flow, "e:") == 1


def items_of(snapshot: FlowSnapshot, name: str = "cw_held") -> ItemsSnapshot:
    items = snapshot.stage(name).items
    assert items is not None
    return items


async def opened(producer: FlowProducer, flow: FlowHandle[int], running: int) -> None:
    """So many items of the flow run."""
    await until(flow, lambda now: now.stage("cw_held").items is not None and items_of(now).running == running)


@pytest.mark.parametrize("is_first", [False, True])
async def test_a_map_may_wait_after_its_release_and_its_items_do_not_wait_again(producer: FlowProducer, is_first: bool) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cw_later_first([0, 1, 2]) if is_first else cw_later(3))
        snapshot = await until(flow, lambda now: now.stage("cw_step").state == "scheduled")
        assert snapshot.stage("cw_step").items is None
        if is_first:
            assert await its_time_comes(producer, flow, "b0:") == 1
        else:
            assert await its_time_comes(producer, flow, "1:") == 1
        assert await flow.result(PATIENCE) == 3


async def test_an_item_that_tells_no_progress_for_too_long_is_retried_and_its_map_goes_on(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cw_stalling(4))
        assert await flow.result(PATIENCE) == [1, 2, 1, 2]
        items = await flow.items("cw_stalls")
    assert [len(item.history) for item in items] == [0, 1, 0, 1]
    assert items[3].history[0].cause.startswith("StageStalled: stage cw_stalls[3] told no progress for 0.2 s")


@pytest.mark.parametrize("kind", ["flow", "queue", "pipeline"])
async def test_what_is_paused_keeps_its_items_and_loses_none(producer: FlowProducer, kind: str) -> None:
    name = {"flow": "paused-map", "queue": "default", "pipeline": "cw_bounded"}[kind]
    pause = {"flow": lambda: producer.flow(name).pause(), "queue": lambda: producer.pause_queue(name)}
    resume = {"flow": lambda: producer.flow(name).resume(), "queue": lambda: producer.resume_queue(name)}
    async with working(producer, *EVERY, concurrency=20):
        flow = await producer.add(cw_bounded(9), id="paused-map")
        await opened(producer, flow, 2)
        await pause.get(kind, lambda: producer.pause_pipeline(name))()
        gate.opened.set()
        snapshot = await until(flow, lambda now: (items_of(now).completed, items_of(now).running) == (2, 0))
        assert snapshot.stage("cw_held").state == "suspended"
        assert snapshot.stage("cw_held").reason is not None
        assert snapshot.stage("cw_held").reason.code == "paused"  # type: ignore[union-attr]
        if kind != "queue":
            await put_aside(producer, f"{kind}:{name}", 2)
        await resume.get(kind, lambda: producer.resume_pipeline(name))()
        assert await flow.result(PATIENCE) == 36
    assert set(ran.values()) == {1}
    assert await entries_aside(producer, f"{kind}:{name}") == 0


async def test_what_was_put_aside_of_an_earlier_opening_of_a_map_means_nothing(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=20):
        flow = await producer.add(cw_bounded(9))
        await opened(producer, flow, 2)
        await producer.pause_pipeline("cw_bounded")
        gate.opened.set()
        await put_aside(producer, "pipeline:cw_bounded", 2)
        assert await flow.cancel()
        assert await flow.retry() == 8, "seven items and what takes the list"
        await put_aside(producer, "pipeline:cw_bounded", 3)
        await producer.resume_pipeline("cw_bounded")
        assert await flow.result(PATIENCE) == 36
    assert set(ran.values()) == {1}


async def test_a_paused_flow_with_an_open_map_can_be_cancelled_and_leaves_nothing_behind(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=20):
        flow = await producer.add(cw_bounded(9), id="paused-map")
        await opened(producer, flow, 2)
        await flow.pause()
        assert await flow.cancel("enough")
        with pytest.raises(FlowCancelled, match="enough"):
            await flow.result(PATIENCE)
    assert {item.state for item in await flow.items("cw_held")} == {"cancelled"}
    assert await entries_aside(producer, "flow:paused-map") == 0


@pytest.mark.parametrize("count", [9, 1_300])
async def test_a_flow_with_an_open_map_fails_at_its_deadline_and_its_items_are_stopped(
    producer: FlowProducer, count: int
) -> None:
    store = producer._open.store
    async with working(producer, *EVERY, concurrency=20):
        flow = await producer.add(cw_open(count), deadline="1h")
        await opened(producer, flow, min(count, 20))
        await its_deadline_passes(producer, flow)
        with pytest.raises(FlowDeadlinePassed):
            await flow.result(PATIENCE)
        items = await flow.items("cw_held", limit=10_000)
        assert {item.state for item in items} == {"cancelled"}
        assert await store.connection.command("ZCARD", store.keys.tag_of(flow.id) + CLOSING) == 0
        gate.opened.set()
        assert await flow.retry() > 0
        assert await flow.result(PATIENCE) == sum(range(count))


async def test_the_items_of_a_flow_that_has_begun_go_first_where_its_pipeline_says_so(producer: FlowProducer) -> None:
    keys = producer._open.store.keys
    ids = [flow_id for number in range(1000) if keys.tag_of(flow_id := f"flow-{number}") == keys.tags[0]][:2]
    flows = [await producer.add(cw_finishing([0, 1, 2]), id=flow_id) for flow_id in ids]
    async with working(producer, *EVERY, concurrency=1):
        for flow in flows:
            assert await flow.result(PATIENCE) == [0, 1, 2]
    assert order == [f"cw_step[{number}] of {flow_id}" for flow_id in ids for number in range(3)]
