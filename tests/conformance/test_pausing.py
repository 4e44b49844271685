"""Queues, pipelines and flows that are paused: nothing of them is begun, nothing of them is lost."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, context, pipeline, stage
from flowq.errors import FlowDeadlinePassed, FlowNotFound, InvalidValue
from flowq.model.snapshot import Reason
from tests.conformance.in_the_store import entries_aside, its_time_comes, put_aside
from tests.conformance.scene import gate, ran
from tests.engine.work import PATIENCE, told, until, working

pytestmark = pytest.mark.anyio


@stage(queue="gpu")
async def cp_gpu(number: int) -> int:
    ran[context().flow_id] += 1
    return number


@stage
async def cp_held(number: int) -> int:
    ran[context().flow_id] += 1
    await gate.stop_async()
    return number


@stage
async def cp_next(number: int) -> int:
    ran[context().flow_id] += 1
    return number


@stage
async def cp_sum(parts: list[int]) -> int:
    ran[context().flow_id] += 1
    return sum(parts)


@pipeline
def cp_two(number: int) -> int:
    return cp_next(cp_held(number))


@pipeline
def cp_plain(number: int) -> int:
    return cp_next(number)


@pipeline
def cp_released(width: int) -> int:
    first = cp_held(1)
    return cp_sum([cp_next.with_options(priority=number % 3)(first) for number in range(width)])


EVERY = (cp_gpu, cp_held, cp_next, cp_sum)


async def all_is_quiet(producer: FlowProducer) -> None:
    """The worker has asked every partition since: a flow in each has run."""
    store = producer._open.store
    others = [f"quiet-{number}" for number in range(40)]
    ids = [next(one for one in others if store.keys.tag_of(one) == tag) for tag in store.partitions]
    for number, flow_id in enumerate(ids):
        flow = await producer.add(cp_sum.flow([number]), id=f"{flow_id}")
        await flow.result(PATIENCE)


def reason_of(snapshot: Any, name: str) -> Reason:
    found = snapshot.stage(name).reason
    assert found is not None
    return found


async def test_of_a_paused_queue_nothing_is_begun_until_it_is_resumed(producer: FlowProducer) -> None:
    await producer.pause_queue("gpu", by="ops")
    await producer.pause_queue("gpu", by="somebody else")
    async with working(producer, *EVERY):
        flow = await producer.add(cp_gpu.flow(3), id="paused-one")
        await all_is_quiet(producer)
        assert ran["paused-one"] == 0
        snapshot = await flow.inspect()
        reason = reason_of(snapshot, "cp_gpu")
        assert (snapshot.state, reason.code, reason.on) == ("ready", "paused", ("gpu",))
        assert reason.sentence.startswith("queue gpu is paused since 20")
        assert reason.sentence.endswith(" UTC, by ops")
        await producer.resume_queue("gpu")
        await producer.resume_queue("gpu")
        assert await flow.result(PATIENCE) == 3
    assert await producer.pauses() == []


async def test_a_pause_outlives_workers_and_producers(producer: FlowProducer) -> None:
    await producer.pause_queue("gpu")
    async with working(producer, *EVERY):
        flow = await producer.add(cp_gpu.flow(3), id="paused-one")
    async with FlowProducer(settings=producer._settings) as other, working(other, *EVERY):
        await all_is_quiet(other)
        assert ran["paused-one"] == 0
        (pause,) = await other.pauses()
        assert (pause.kind, pause.name, pause.by) == ("queue", "gpu", "")
        await other.resume_queue("gpu")
        assert await flow.result(PATIENCE) == 3


async def test_what_runs_when_its_queue_is_paused_ends(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cp_held.flow(3))
        await gate.until_arrived()
        await producer.pause_queue("default")
        gate.opened.set()
        assert await flow.result(PATIENCE) == 3


async def test_of_a_paused_pipeline_no_flow_is_begun_and_others_run(producer: FlowProducer) -> None:
    await producer.pause_pipeline(cp_plain, by="ops")
    async with working(producer, *EVERY):
        flows = [await producer.add(cp_plain(number), id=f"held-{number}", priority=number % 3) for number in range(20)]
        await all_is_quiet(producer)
        assert not any(ran[flow.id] for flow in flows)
        assert reason_of(await flows[0].inspect(), "cp_next").sentence.startswith("pipeline cp_plain is paused since")
        assert await entries_aside(producer, "pipeline:cp_plain") == 20
        await producer.resume_pipeline("cp_plain")
        assert [await flow.result(PATIENCE) for flow in flows] == list(range(20))
    assert await entries_aside(producer, "pipeline:cp_plain") == 0
    assert ran["held-3"] == 1


async def test_a_paused_flow_ends_what_runs_and_begins_nothing_until_it_is_resumed(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cp_two(3), id="paused-one")
        await gate.until_arrived()
        assert await flow.pause(by="ops")
        assert await flow.pause()
        gate.opened.set()
        snapshot = await until(flow, lambda snapshot: snapshot.done == 1)
        await all_is_quiet(producer)
        assert ran["paused-one"] == 1
        snapshot = await flow.inspect()
        assert snapshot.state == "paused"
        assert snapshot.pause is not None
        assert snapshot.pause.by == "ops"
        assert reason_of(snapshot, "cp_next").sentence.startswith("flow paused-one is paused since")
        assert [found.id for found in await producer.list(state="paused")] == ["paused-one"]
        assert await flow.resume()
        assert await flow.resume()
        assert await flow.result(PATIENCE) == 3
    verbs = await told(flow)
    assert verbs.count("paused") == verbs.count("resumed") == 1
    assert not await flow.pause(), "it has ended"
    assert not await flow.resume()


async def test_a_flow_that_is_paused_before_it_begins_runs_whole_when_it_is_resumed(producer: FlowProducer) -> None:
    flow = await producer.add(cp_plain(4), id="paused-one")
    await flow.pause()
    async with working(producer, *EVERY):
        await all_is_quiet(producer)
        assert await entries_aside(producer, "flow:paused-one") == 1
        await flow.resume()
        assert await flow.result(PATIENCE) == 4


async def test_a_flow_with_many_ready_stages_loses_none_over_pauses(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=200):
        flow = await producer.add(cp_released(1_300), id="paused-one")
        await gate.until_arrived()
        await flow.pause()
        gate.opened.set()
        await until(flow, lambda snapshot: snapshot.done == 1)
        await put_aside(producer, "flow:paused-one", 1_300)
        await flow.resume()
        await flow.pause()
        await flow.resume()
        assert await flow.result(PATIENCE) == 1_300
    assert ran["paused-one"] == 1_302


async def test_a_scheduled_flow_may_be_paused_and_is_scheduled_again_when_it_is_resumed_in_time(producer: FlowProducer) -> None:
    flow = await producer.add(cp_plain(4), delay="1h")
    await flow.pause()
    assert (await flow.inspect()).state == "paused"
    await flow.resume()
    assert (await flow.inspect()).state == "scheduled"
    await flow.pause()
    store = producer._open.store
    assert await its_time_comes(producer, flow) == 1
    async with working(producer, *EVERY):
        await all_is_quiet(producer)
        assert ran[flow.id] == 0
        await store.connection.command("HSET", store.keys.flow(flow.id), "b", b"\x92\x01\x01")  # its time is over
        await flow.resume()
        assert await flow.result(PATIENCE) == 4


async def test_a_paused_flow_can_be_cancelled_and_leaves_nothing_behind(producer: FlowProducer) -> None:
    flow = await producer.add(cp_plain(4), id="paused-one")
    await flow.pause()
    async with working(producer, *EVERY):
        await all_is_quiet(producer)
    assert await entries_aside(producer, "flow:paused-one") == 1
    assert await flow.cancel()
    assert await entries_aside(producer, "flow:paused-one") == 0


async def test_the_deadline_of_a_paused_flow_counts(producer: FlowProducer) -> None:
    flow = await producer.add(cp_plain(4), id="paused-one", deadline="300ms")
    await flow.pause()
    async with working(producer, *EVERY):
        with pytest.raises(FlowDeadlinePassed):
            await flow.result(PATIENCE)
    assert await entries_aside(producer, "flow:paused-one") == 0


async def test_paused_flows_are_told_after_queues_and_pipelines_if_they_are_asked_for(producer: FlowProducer) -> None:
    flows = [await producer.add(cp_plain(number), id=f"paused-{number}") for number in range(12)]
    for flow in flows[:10]:
        await flow.pause(by=f"who paused {flow.id}")
    await producer.pause_queue("gpu")
    store = producer._open.store
    await store.connection.command("HSET", store.keys.flow("paused-9"), "m", b"\xc1")
    every = await producer.pauses(flows=20)
    assert [(pause.kind, pause.name) for pause in every[:1]] == [("queue", "gpu")]
    assert {pause.name: pause.by for pause in every[1:]} == {flow.id: f"who paused {flow.id}" for flow in flows[:9]}
    assert [pause.name for pause in await producer.pauses(flows=3)] == ["gpu", *(pause.name for pause in every[1:4])]
    assert [pause.kind for pause in await producer.pauses()] == ["queue"]
    for wrong in (-1, 1.5, True, None):
        with pytest.raises(InvalidValue, match="flows"):
            await producer.pauses(flows=wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def test_a_pause_of_what_there_is_not_is_refused(producer: FlowProducer) -> None:
    missing: FlowHandle[Any] = producer.flow("missing")
    with pytest.raises(FlowNotFound):
        await missing.pause()
    with pytest.raises(FlowNotFound):
        await missing.resume()
    for wrong in ("", "a b", 3):
        with pytest.raises(InvalidValue):
            await producer.pause_queue(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        with pytest.raises(InvalidValue):
            await producer.pause_pipeline(wrong)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert await producer.pauses() == []
