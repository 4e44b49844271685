"""Stages and the children that they wait for: in which order they run, what they hand on, and whose results are whose."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from flowq import Backoff, FlowProducer, Node, Unrecoverable, context, pipeline, stage
from flowq.engine.flow import handle
from flowq.errors import FlowFailed, FlowNotFound, InvalidValue
from flowq.store.retentions import Retention
from tests.conformance.after_the_end import pruner_of
from tests.conformance.scene import broken, gate, order, ran
from tests.engine.work import PATIENCE, told, until, working
from tests.scanned import keys_like

pytestmark = pytest.mark.anyio


@stage(queue="parts")
async def fa_part(number: int) -> int:
    ran[context().flow_id] += 1
    if context().flow_id in broken:
        raise Unrecoverable("broken")
    return number


@stage(queue="sums")
async def fa_sum(parts: list[int]) -> int:
    order.append(context().stage)
    ran[context().flow_id] += 1
    return sum(parts)


@stage
async def fa_held(number: int) -> int:
    await gate.stop_async()
    return number


@stage(attempts=3, backoff=Backoff.fixed("1ms"))
async def fa_third_time(numbers: list[int]) -> int:
    ran[context().stage] += 1
    if context().attempt < 3:
        raise OSError(f"attempt {context().attempt}")
    return sum(numbers) + context().attempt


@stage
async def fa_in_order(numbers: list[int]) -> list[int]:
    return numbers


@pipeline
def fa_family(numbers: list[int]) -> int:
    return fa_sum([fa_part(number) for number in numbers])


@pipeline
def fa_slow_family(number: int) -> int:
    return fa_sum([fa_part(number), fa_held(number)])


@pipeline
def fa_stubborn(number: int) -> int:
    below = fa_third_time.with_options(name="below")([])
    return fa_third_time.with_options(name="above")([below, fa_third_time.with_options(name="beside")([number])])


@pipeline
def fa_wide(width: int) -> list[int]:
    return fa_in_order([fa_part(number) for number in range(width)])


@pipeline
def fa_released(number: int) -> list[int]:
    first = fa_part(number)
    return [fa_sum.with_options(name=f"at-{level}", priority=level)([first]) for level in (1, 3, 0, 2)]


EVERY = (fa_part, fa_sum, fa_held, fa_third_time, fa_in_order)


async def test_a_parent_starts_when_its_children_in_whatever_queues_have_completed(producer: FlowProducer) -> None:
    children = [Node(f"part-{number}", stage="fa_part", data={"number": number}) for number in (1, 20)]
    family = Node("sum", stage="fa_sum", data={"parts": [*children, Node("held", stage="fa_held", data={"number": 300})]})
    async with working(producer, *EVERY):
        flow = await producer.add(family)
        await gate.until_arrived()
        waiting = (await until(flow, lambda now: now.done == 2)).stage("sum")
        assert (waiting.state, waiting.children) == ("blocked", ("part-1", "part-20", "held"))
        gate.opened.set()
        assert await flow.result(PATIENCE) == 321
        events = await told(flow)
    assert {stage.name: stage.result for stage in (await flow.inspect()).graph} == {
        "part-1": 1, "part-20": 20, "held": 300, "sum": 321,
    }  # fmt: skip
    assert events[-4:] == ["released sum", "claimed sum", "completed sum", "completed"]


async def test_links_of_a_chain_are_released_one_by_one_with_the_result_of_the_link_before(producer: FlowProducer) -> None:
    first = Node("first", stage="fa_part", data={"number": 5})
    second = Node("second", stage="fa_sum", data={"parts": [first, 10]})
    async with working(producer, *EVERY):
        flow = await producer.add(Node("third", stage="fa_sum", data={"parts": [second, 100]}))
        assert await flow.result(PATIENCE) == 115
        assert await told(flow) == [
            "added", "claimed first", "completed first", "released second", "claimed second", "completed second",
            "released third", "claimed third", "completed third", "completed",
        ]  # fmt: skip


async def test_a_stage_with_an_empty_list_of_children_is_ready_at_once(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(Node("alone", stage="fa_part", data={"number": 7}, children=[]))
        assert await flow.result(PATIENCE) == 7
    assert (await flow.inspect()).graph[0].children == ()


async def test_a_flow_has_the_id_that_it_was_given_and_counts_what_is_done(producer: FlowProducer) -> None:
    flow = await producer.add(fa_family([1, 2, 3]), id="video:42")
    before = await producer.flow("video:42").inspect()
    assert (flow.id, before.stages, before.done) == ("video:42", 4, 0)
    assert [stage.state for stage in before.graph] == ["ready"] * 3 + ["blocked"]
    async with working(producer, *EVERY):
        await flow.result(PATIENCE)
    after = await producer.flow("video:42").inspect()
    assert (after.done, after.progress) == (4, 1.0)


async def test_the_results_of_72_children_arrive_in_the_order_in_which_they_were_asked_for(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=50):
        assert await (await producer.add(fa_wide(72))).result(PATIENCE) == list(range(72))


async def test_attempts_are_counted_from_one_and_the_last_may_succeed(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(fa_stubborn(10))
        assert await flow.result(PATIENCE) == 3 + (10 + 3) + 3
        events = Counter(event.split()[0] for event in await told(flow))
    assert ran == {"below": 3, "beside": 3, "above": 3}
    assert (events["completed"], events["retried"]) == (3 + 1, 6)


async def test_flows_that_are_added_together_see_only_what_is_theirs(producer: FlowProducer) -> None:
    broken.add("two")
    async with working(producer, *EVERY):
        one, two, three = await producer.add_bulk(
            fa_family([number, number]).with_options(id=flow_id) for flow_id, number in (("one", 1), ("two", 20), ("three", 300))
        )
        with pytest.raises(FlowFailed):
            await two.result(PATIENCE)
        assert (await one.result(PATIENCE), await three.result(PATIENCE)) == (2, 600)
    assert ran == {"one": 3, "two": 2, "three": 3}


async def test_parents_that_are_released_have_their_place_by_priority(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=1):
        assert await (await producer.add(fa_released(4))).result(PATIENCE) == [4, 4, 4, 4]
    assert order == ["at-3", "at-2", "at-1", "at-0"]


async def test_a_parent_that_is_released_into_a_paused_queue_waits_there(producer: FlowProducer) -> None:
    await producer.pause_queue("sums")
    async with working(producer, *EVERY):
        flow = await producer.add(fa_family([1, 2]))
        waiting = await until(flow, lambda now: now.stage("fa_sum").state == "ready")
        reason = waiting.stage("fa_sum").reason
        assert reason is not None
        assert reason.code == "paused"
        assert order == []
        await producer.resume_queue("sums")
        assert await flow.result(PATIENCE) == 3


async def test_a_parent_whose_child_has_failed_needs_no_worker_to_fail_its_flow(producer: FlowProducer) -> None:
    broken.add("alone")
    async with working(producer, fa_part, queues={"parts": None}):
        flow = await producer.add(fa_family([1]), id="alone")
        with pytest.raises(FlowFailed) as failure:
            await flow.result(PATIENCE)
    assert failure.value.stage == "fa_part"


async def test_namespaces_know_nothing_of_each_other(producer: FlowProducer) -> None:
    settings = producer._settings
    async with FlowProducer(settings.url, namespace=f"{settings.namespace}-other", artifacts=settings.artifacts) as other:
        first, second = await producer.add(fa_family([1, 2]), id="same"), await other.add(fa_family([30, 40]), id="same")
        assert first.is_new
        assert second.is_new
        async with working(other, *EVERY):
            assert await second.result(PATIENCE) == 70
        assert ((await first.inspect()).state, (await second.inspect()).state) == ("ready", "completed")
        assert [flow.state for flow in await producer.list()] == ["ready"]
        assert (await other.prune(state="completed")).done == 1
    assert (await first.inspect()).state == "ready"


async def test_flows_are_spread_over_the_partitions_and_each_lives_in_one(producer: FlowProducer) -> None:
    store = producer._open.store
    count = 25 * len(store.partitions)  # so many that none is missed by chance
    flows = await producer.add_bulk(fa_family([number]) for number in range(count))
    tags = {flow.id: store.keys.tag_of(flow.id) for flow in flows}
    assert set(tags.values()) == set(store.partitions)
    for key in await keys_like(store, f"*{store.keys.namespace}*"):
        found = [flow_id for flow_id in tags if flow_id in key.decode()]
        assert all(key.decode().startswith(tags[flow_id]) for flow_id in found)
    async with working(producer, *EVERY):
        assert [await flow.result(PATIENCE) for flow in flows] == list(range(count))


# ── retention, and ids that are used again ───────────────────────────────────────────────────────────────────────────


async def test_what_a_stage_returned_stays_until_its_flow_has_ended(producer: FlowProducer) -> None:
    store = producer._open.store
    store.retention = Retention(-1_000, -1_000, -1_000)  # whatever has ended is to go at once
    async with working(producer, *EVERY):
        flow = await producer.add(fa_slow_family(4))
        await gate.until_arrived()
        await until(flow, lambda now: now.stage("fa_part").state == "completed")
        assert await pruner_of(producer).run_once() == 0
        assert (await producer.prune(pipeline="fa_slow_family")).done == 0
        with pytest.raises(InvalidValue):
            await producer.prune(state="running")
        gate.opened.set()
        assert await flow.result(PATIENCE) == 8
    assert (await producer.prune(pipeline="fa_slow_family")).done == 1
    with pytest.raises(FlowNotFound):
        await flow.inspect()


async def test_a_failure_is_handled_alike_though_what_has_failed_is_to_be_removed_at_once(producer: FlowProducer) -> None:
    store = producer._open.store
    store.retention = Retention(-1_000, -1_000, -1_000)
    broken.add("short-lived")
    async with working(producer, *EVERY):
        flow = await producer.add(fa_slow_family(4), id="short-lived")
        await gate.until_arrived()
        await until(flow, lambda now: now.stage("fa_part").state == "failed")
        assert await pruner_of(producer).run_once() == 0
        gate.opened.set()
        with pytest.raises(FlowFailed, match="failed at fa_part: Unrecoverable: broken"):
            await flow.result(PATIENCE)
        states = {stage.name: stage.state for stage in (await flow.inspect()).graph}
        assert states == {"fa_part": "failed", "fa_held": "completed", "fa_sum": "blocked"}
    assert (await producer.prune(pipeline="fa_slow_family")).done == 1


async def test_the_id_of_a_flow_that_was_removed_may_be_used_again_and_all_of_it_runs(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        for numbers in ([1, 2], [3, 4]):
            flow = await producer.add(fa_family(numbers), id="nightly")
            assert (flow.is_new, await flow.result(PATIENCE)) == (True, sum(numbers))
            assert (await producer.prune(state="completed")).done == 1
    assert ran["nightly"] == 2 * 3


async def test_a_completed_flow_that_is_added_again_is_given_back_and_runs_nothing(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(fa_family([1, 2]), id="nightly")
        await flow.result(PATIENCE)
        seq = (await flow.inspect()).seq
        again = await producer.add(fa_family([1, 2]), id="nightly")
        assert (again.is_new, await again.result(PATIENCE)) == (False, 3)
    assert ((await again.inspect()).seq, ran["nightly"]) == (seq, 3)


async def test_a_failed_flow_that_is_added_again_is_given_back_as_failed_until_it_is_retried(producer: FlowProducer) -> None:
    broken.add("nightly")
    async with working(producer, *EVERY):
        await producer.add(fa_family([1, 2]), id="nightly")
        with pytest.raises(FlowFailed):
            await producer.flow("nightly").result(PATIENCE)
        broken.clear()
        again = await producer.add(fa_family([1, 2]), id="nightly")
        assert (again.is_new, (await again.inspect()).state) == (False, "failed")
        assert await again.retry() == 2
        assert await again.result(PATIENCE) == 3


async def test_who_waits_for_a_flow_that_is_removed_is_told(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handle, "_POLL_SECONDS", 0.05)
    flow = await producer.add(fa_family([1]), id="nightly")
    waiting = asyncio.create_task(flow.result(PATIENCE))
    store = producer._open.store
    await store.connection.command("UNLINK", store.keys.flow("nightly"))
    with pytest.raises(FlowNotFound):
        await waiting
