"""Stages that run further flows beneath their own."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from flowq import FlowHandle, FlowProducer, StageFailure, Unrecoverable, context, pipeline, stage, tolerate
from flowq.errors import FlowCancelled, FlowFailed, InvalidValue
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views
from tests.conformance.in_the_store import remove
from tests.conformance.scene import broken, gate, ran
from tests.engine.work import told, until, working
from tests.scanned import keys_like

pytestmark = pytest.mark.anyio


class Part(msgspec.Struct):
    number: int


@stage
async def cn_part(number: int) -> Part:
    ran[f"part {number}"] += 1
    if {"part", f"part {number}"} & broken:
        raise Unrecoverable("the part is broken")
    return Part(number)


@stage
async def cn_held(number: int) -> Part:
    await gate.stop_async()
    return Part(number)


@stage
async def cn_parent(numbers: list[int]) -> int:
    ran["parent"] += 1
    total = 0
    for number in numbers:
        total += (await context().spawn(cn_part, number)).number
    return total


@stage
async def cn_meets(number: int, others: int) -> int:
    ran["met"] += 1
    if ran["met"] == others:
        gate.opened.set()
    await gate.stop_async()  # each ends only when all have begun
    return number


@stage
async def cn_side_by_side(numbers: list[int]) -> int:
    ran["side_by_side"] += 1
    return sum(await asyncio.gather(*(context().spawn(cn_meets, number, len(numbers)) for number in numbers)))


@stage
async def cn_catches(number: int) -> str:
    try:
        await context().spawn(cn_part, number)
    except FlowFailed as error:
        kept = f"{error.stage}: {error.message}"
    else:
        kept = "fine"
    await context().sleep(0.2)  # begins again after it: the same must come out
    return kept


@stage
async def cn_waits(number: int) -> Part:
    return await context().spawn(cn_held, number)


@stage
async def cn_sum(one: Part, other: Part) -> int:
    return one.number + other.number


@stage
async def cn_keyed(numbers: list[int], key: str) -> int:
    spawned = [await context().spawn(cn_part.flow(number), key=key) for number in numbers]
    return len(spawned)


@stage
async def cn_deeper(depth: int) -> int:
    return 1 + await context().spawn(cn_recursive, depth - 1) if depth else 0


@pipeline
def cn_recursive(depth: int) -> int:
    return cn_deeper(depth)


@pipeline
def cn_two(number: int) -> int:
    return cn_sum(cn_part(number), cn_part(number + 1))


@stage
async def cn_pipelines(number: int) -> int:
    return await context().spawn(cn_two, number)


@stage
async def cn_both(number: int) -> int:
    with_one = asyncio.gather(context().spawn(cn_part, number), context().spawn(cn_held, number))
    return sum(part.number for part in await with_one)


@stage
async def cn_bears(total: int | StageFailure) -> str:
    return "borne" if isinstance(total, StageFailure) else "whole"


@pipeline
def cn_tolerant(number: int) -> str:
    return cn_bears(tolerate(cn_both(number)))


@stage
async def cn_item(number: int) -> int:
    if number:
        return (await context().spawn(cn_held, number)).number
    await gate.until_arrived()
    return 0


@stage
async def cn_after(numbers: list[int]) -> int:
    return await context().wait_for_signal("go", int)


@pipeline
def cn_any(count: int) -> int:
    return cn_after(cn_item.with_options(need="any").map(list(range(count))))


EVERY = (
    cn_both, cn_bears, cn_item, cn_after,
    cn_part, cn_held, cn_meets, cn_parent, cn_side_by_side, cn_catches, cn_waits, cn_sum, cn_keyed, cn_deeper, cn_pipelines,
)  # fmt: skip


async def test_a_stage_gets_the_typed_result_of_what_it_spawned(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=1):
        flow = await producer.add(cn_parent.flow([1, 2, 2]))
        assert await flow.result(30) == 5
        assert await (await producer.add(cn_pipelines.flow(3))).result(30) == 7
    assert ran == {"parent": 4, "part 1": 1, "part 2": 2, "part 3": 1, "part 4": 1}, "each child ran once"
    snapshot = await flow.inspect()
    assert [child.state for child in snapshot.spawned] == ["completed"] * 3
    assert all(child.id.startswith(f"{flow.id}^cn_parent.") for child in snapshot.spawned)
    child = producer.flow(snapshot.spawned[0].id)
    assert (await child.inspect()).parent == flow.id
    assert await child.result(30) in ({"number": 1}, {"number": 2})


async def test_spawned_flows_run_side_by_side(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cn_side_by_side.flow([1, 2, 3, 4]))
        assert await flow.result(30) == 10
    assert ran["met"] == 4, "each ran once"


async def test_while_it_waits_for_what_it_spawned_the_reason_names_it(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=1):
        flow = await producer.add(cn_waits.flow(1))
        await gate.until_arrived()
        snapshot = await flow.inspect()
        gate.opened.set()
        await flow.result(30)
    (child,) = snapshot.spawned
    reason = snapshot.stage("cn_waits").reason
    assert reason is not None
    assert (reason.code, reason.on, child.state) == ("spawned", (child.id,), "running")
    assert snapshot.state == "suspended"
    assert "resumed cn_waits" in await told(flow)


async def test_a_pipeline_may_spawn_itself_with_one_slot_and_not_without_end(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=1):
        assert await (await producer.add(cn_recursive(3))).result(30) == 3
        with pytest.raises(FlowFailed, match=r"SpawnedTooDeep: .* more than 16 flows above it") as failed:
            await (await producer.add(cn_recursive(20))).result(60)
    assert failed.value.message.count("failed at") == 1, "only the root cause is named"


async def test_the_failure_of_a_child_names_the_root_cause_and_can_be_caught(producer: FlowProducer) -> None:
    broken.add("part")
    async with working(producer, *EVERY):
        with pytest.raises(FlowFailed, match="failed at cn_part: Unrecoverable: the part is broken"):
            await (await producer.add(cn_parent.flow([1]))).result(30)
        assert await (await producer.add(cn_catches.flow(2))).result(30) == "cn_part: the part is broken"
    assert ran["part 2"] == 1


async def test_a_retry_of_the_parent_runs_the_failed_child_again(producer: FlowProducer) -> None:
    broken.add("part 2")
    async with working(producer, *EVERY):
        flow = await producer.add(cn_parent.flow([1, 2]))
        with pytest.raises(FlowFailed):
            await flow.result(30)
        broken.clear()
        await flow.retry()
        assert await flow.result(30) == 3
    assert [child.state for child in (await flow.inspect()).spawned] == ["completed"] * 2
    assert (ran["part 1"], ran["part 2"]) == (1, 2), "what had completed did not run again"
    assert [summary.id for summary in await producer.list()] == [flow.id]


async def test_the_next_attempt_of_the_parent_runs_the_failed_child_again(producer: FlowProducer) -> None:
    broken.add("part 2")
    async with working(producer, *EVERY):
        flow = await producer.add(cn_parent.with_options(attempts=2, backoff=None).flow([1, 2]))
        with pytest.raises(FlowFailed):
            await flow.result(30)
    assert (ran["part 1"], ran["part 2"]) == (1, 2), "what had completed did not run again"


async def test_a_cancelled_child_is_told_to_its_parent(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cn_waits.flow(1))
        await gate.until_arrived()
        (child,) = (await flow.inspect()).spawned
        await producer.flow(child.id).cancel("not needed")
        with pytest.raises(FlowFailed, match=r"FlowCancelled: .*was cancelled: not needed"):
            await flow.result(30)


async def test_cancelling_a_flow_cancels_what_it_spawned(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cn_waits.flow(1))
        await gate.until_arrived()
        await flow.cancel("all of it")
        (child,) = (await flow.inspect()).spawned
        with pytest.raises(FlowCancelled, match=r"the flow above was cancelled \(all of it\)"):
            await producer.flow(child.id).result(30)
        # And a retry runs both again.
        gate.opened.set()
        await flow.retry()
        assert await flow.result(30) == Part(1)


async def cancelled_beneath(producer: FlowProducer, flow: FlowHandle[Any]) -> list[str]:
    """Why what the flow spawned was cancelled, once that is."""
    snapshot = await until(flow, lambda seen: "cancelled" in [child.state for child in seen.spawned])
    ids = [child.id for child in snapshot.spawned if child.state == "cancelled"]
    return [(await producer.flow(child).inspect()).cancel_reason for child in ids]


async def test_a_flow_that_fails_leaves_nothing_running_beneath_it(producer: FlowProducer) -> None:
    broken.add("part")
    async with working(producer, *EVERY):
        flow = await producer.add(cn_both.flow(1))
        with pytest.raises(FlowFailed, match="the part is broken"):
            await flow.result(30)
        # Retried at once, it waits for what was being cancelled, and runs it again.
        broken.clear()
        gate.opened.set()
        await flow.retry()
        assert await flow.result(30) == 2


async def test_what_stands_beneath_is_cancelled_when_the_flow_above_has_failed(producer: FlowProducer) -> None:
    broken.add("part")
    async with working(producer, *EVERY):
        flow = await producer.add(cn_both.flow(1))
        with pytest.raises(FlowFailed, match="the part is broken"):
            await flow.result(30)
        assert await cancelled_beneath(producer, flow) == ["the flow above failed"]


async def test_a_flow_that_bears_a_failure_and_completes_leaves_nothing_running_beneath_it(producer: FlowProducer) -> None:
    broken.add("part")
    async with working(producer, *EVERY):
        flow = await producer.add(cn_tolerant(1))
        assert await flow.result(30) == "borne"
        assert await cancelled_beneath(producer, flow) == ["the flow above completed"]


async def test_what_a_stopped_item_spawned_is_cancelled_while_its_flow_goes_on(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cn_any(2))
        assert await cancelled_beneath(producer, flow) == ["the stage above was cancelled"]
        assert (await flow.inspect()).state != "completed"
        await flow.signal("go", 7)
        assert await flow.result(30) == 7


async def test_a_duty_cancels_the_children_of_a_client_that_died(producer: FlowProducer) -> None:
    from flowq.engine.duties.duties import Closer

    async with working(producer, *EVERY):
        flow = await producer.add(cn_waits.flow(1))
        await gate.until_arrived()
        store = producer._open.store
        await store.cancel(flow.id, "", 1)  # and dies before it cancels what is beneath
        (child,) = (await flow.inspect()).spawned
        await Closer(store, Views(store)).run_once()
        assert (await producer.flow(child.id).inspect()).state == "cancelled"


async def test_one_key_names_one_flow(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cn_keyed.flow([1, 1], "same"))
        assert await flow.result(30) == 2
        assert len((await flow.inspect()).spawned) == 1
        with pytest.raises(FlowFailed, match="which has the same key"):
            await (await producer.add(cn_keyed.flow([1, 2], "same"))).result(30)


async def test_spawned_flows_stay_as_long_as_the_root_and_go_with_it(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cn_parent.flow([1]))
        await flow.result(30)
    store: Store = producer._open.store
    tag = store.keys.tag_of(flow.id)
    (child,) = (await flow.inspect()).spawned
    await Suspensions(store).fell(tag, all_now=True)
    assert await Views(store).exists(child.id)
    await remove(producer, flow)
    assert not await Views(store).exists(child.id)
    assert await keys_like(store, f"{tag}:t*") == []
    assert await keys_like(store, f"{tag}:routes") == []


async def test_ids_of_spawned_flows_are_not_for_users(producer: FlowProducer) -> None:
    with pytest.raises(InvalidValue, match="without '\\^'"):
        await producer.add(cn_part.flow(1), id="one^two.abc")


async def test_children_are_not_listed_among_flows(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cn_parent.flow([1]))
        await flow.result(30)
    assert [summary.id for summary in await producer.list()] == [flow.id]
