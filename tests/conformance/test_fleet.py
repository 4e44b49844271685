"""What is told of queues and workers: what waits, what runs, who serves."""

from __future__ import annotations

import asyncio

import pytest

from flowq import FlowProducer, Node, RetryAfter, context, pipeline, stage
from flowq.model.event import Event
from flowq.model.fleet import QueueSnapshot
from flowq.pipeline import Dedup
from flowq.store.keys import HOLDER, LIVE
from tests.conformance.scene import gate
from tests.engine.waiting import in_the_end
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@stage(queue="quick")
async def fl_quick(number: int) -> int:
    return number


@stage(queue="slow")
async def fl_slow(number: int) -> int:
    await gate.stop_async()
    return number


@stage(queue="moody", attempts=2)
async def fl_moody() -> None:
    raise RetryAfter("1h", "not now")


@stage
async def fl_spawns() -> int:
    number, _ = await asyncio.gather(context().spawn(fl_quick, 7), context().sleep("1h"))
    return number


@pipeline
def fl_wide(width: int) -> list[int]:
    return [fl_quick(number) for number in range(width)]


@pipeline
def fl_mixed() -> list[int]:
    return [fl_slow(1), fl_quick(fl_slow(2))]


async def queues_of(producer: FlowProducer) -> dict[str, QueueSnapshot]:
    return {queue.name: queue for queue in await producer.queues()}


async def test_where_nothing_was_ever_added_there_is_no_queue(producer: FlowProducer) -> None:
    assert await producer.queues() == []
    assert await producer.workers() == []


async def test_stages_that_wait_for_a_worker_that_there_is_not_are_counted(producer: FlowProducer) -> None:
    flows = [await producer.add(fl_wide(width)) for width in (3, 4)]
    await producer.add(fl_wide(5), delay="1h")
    (quick,) = await producer.queues()
    assert (quick.name, quick.ready, quick.delayed, quick.running, quick.workers, quick.slots) == ("quick", 7, 5, 0, 0, 0)
    assert quick.oldest_seconds is not None
    assert not quick.is_estimate
    ready_at = (await flows[0].inspect()).created_at
    now = (await flows[0].inspect()).at
    assert 0 <= quick.oldest_seconds <= (now - ready_at) / 1000


async def test_stages_of_tenants_are_counted_too(producer: FlowProducer) -> None:
    for tenant in ("acme", "globex", ""):
        await producer.add(fl_wide(2), tenant=tenant)
    (quick,) = await producer.queues()
    assert (quick.ready, quick.is_estimate) == (6, False)
    assert quick.oldest_seconds is not None


async def test_what_a_stage_spawned_is_counted_and_one_that_sleeps_waits_in_no_queue(producer: FlowProducer) -> None:
    flow = await producer.add(fl_spawns.flow())
    async with working(producer, fl_spawns):
        async for event in flow.events():
            if isinstance(event, Event) and event.verb == "suspended":
                break
        queues = await queues_of(producer)
    assert (queues["quick"].ready, queues["quick"].workers) == (1, 0)
    assert queues["default"].delayed == 0
    assert "flowq" not in queues
    await flow.pause()
    assert (await queues_of(producer))["quick"].ready == 0


async def test_running_stages_and_slots_are_counted_by_queue(producer: FlowProducer) -> None:
    flow = await producer.add(fl_mixed())
    async with working(producer, fl_slow, fl_quick, concurrency=7):
        await gate.until_arrived()
        await both_claimed(producer, flow.id)
        queues = await queues_of(producer)
        assert (queues["slow"].running, queues["slow"].ready, queues["slow"].workers, queues["slow"].slots) == (2, 0, 1, 7)
        assert (queues["quick"].running, queues["quick"].workers, queues["quick"].oldest_seconds) == (0, 1, None)
        (worker,) = await producer.workers()
        assert (set(worker.queues), worker.running, worker.concurrency) == ({"slow", "quick", "flowq"}, 2, 7)
        assert worker.since is not None
        assert worker.lease_seconds > 0
        gate.opened.set()
        assert await flow.result(30) == [1, 2]
        assert {name: queue.running for name, queue in (await queues_of(producer)).items()} == {"slow": 0, "quick": 0}


async def both_claimed(producer: FlowProducer, flow_id: str) -> None:
    claimed = 0
    async for event in producer.flow(flow_id).events():
        claimed += isinstance(event, Event) and event.verb == "claimed"
        if claimed == 2:
            return


async def test_a_stage_between_two_attempts_is_delayed(producer: FlowProducer) -> None:
    flow = await producer.add(fl_moody.flow())
    async with working(producer, fl_moody):
        async for event in flow.events():
            if isinstance(event, Event) and event.verb == "retried":
                break
        assert (await queues_of(producer))["moody"].delayed == 1
    await flow.cancel()
    assert (await queues_of(producer))["moody"].delayed == 0


async def test_what_is_due_while_there_is_no_worker_waits_for_one(producer: FlowProducer) -> None:
    """Workers make ready what is due: without one nobody does, and who scales workers by what is ready would never start one."""
    await producer.add(fl_wide(3), delay="1ms")

    async def quick_is_due() -> QueueSnapshot | None:
        quick = (await queues_of(producer))["quick"]
        return quick if quick.ready else None

    quick = await in_the_end(quick_is_due)
    assert (quick.ready, quick.delayed, quick.workers) == (3, 0, 0)


async def test_a_paused_queue_says_so(producer: FlowProducer) -> None:
    await producer.pause_queue("empty", by="jo")
    await producer.add(fl_wide(2))
    queues = await queues_of(producer)
    assert (queues["empty"].pause and queues["empty"].pause.by, queues["quick"].pause) == ("jo", None)


async def test_a_queue_of_an_earlier_definition_is_found_while_a_flow_waits_there(producer: FlowProducer) -> None:
    old = await producer.add(Node("fl_work", queue="old", data={}))
    for number in range(20):
        await producer.add(Node("fl_work", queue="new", data={"number": number}))
    assert {name: queue.ready for name, queue in (await queues_of(producer)).items()} == {"old": 1, "new": 20}
    assert (await old.inspect()).state == "ready"


async def test_a_queue_is_known_as_long_as_its_flow_waits_to_begin(producer: FlowProducer) -> None:
    """Also when that takes the place of another, which waited for another queue."""
    await producer.add(Node("fl_work", queue="first", data={}), dedup=Dedup("k", debounce="1h"))
    assert {name: queue.delayed for name, queue in (await queues_of(producer)).items()} == {"first": 1}
    await producer.add(Node("fl_work", queue="second", data={}), dedup=Dedup("k", debounce="1h"))
    assert {name: queue.delayed for name, queue in (await queues_of(producer)).items()} == {"second": 1}


async def test_a_long_lane_is_counted_in_part(producer: FlowProducer) -> None:
    flows = [fl_wide(2).with_options(id=f"f{number}") for number in range(4_600)]
    await producer.add_bulk(flows)
    quick = (await queues_of(producer))["quick"]
    assert (quick.ready, quick.is_estimate) == (9_200, True)


async def test_damage_in_one_place_does_not_hide_the_rest(producer: FlowProducer) -> None:
    flow = await producer.add(fl_wide(3))
    await producer.add(fl_wide(2))
    other = await producer.add(fl_mixed(), dedup=Dedup("k"))
    store = producer._open.store
    digest = await store.connection.command("HGET", store.keys.flow(other.id), "p")
    await store.connection.command("HSET", f"{store.keys.tag_of(other.id)}:p:{digest.decode()}", "head", b"rubbish")
    await store.connection.command("HSET", store.keys.flow(flow.id), "m", b"rubbish")
    assert (await queues_of(producer))["quick"].ready == 2
    assert await store.connection.command("ZCARD", store.keys.tag_of(flow.id) + LIVE) > 0


async def test_a_worker_keeps_the_moment_when_it_announced_itself(producer: FlowProducer) -> None:
    async with working(producer, fl_quick):
        await (await producer.add(fl_wide(1))).result(30)
        (worker,) = await producer.workers()
        store = producer._open.store
        first = [await store.connection.command("HGET", tag + HOLDER + worker.id, "since") for tag in store.partitions]
        assert worker.since in {int(since) for since in first}
