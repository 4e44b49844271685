"""Stages with a cache whose flow is retried by hand: what ran again, what was reused, and what was kept."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import Backoff, FlowHandle, FlowProducer, pipeline, stage
from flowq.errors import FlowFailed
from flowq.model.snapshot import FlowSnapshot, Reused
from flowq.store import retries
from flowq.store.memos import hasten
from tests.conformance.scene import broken, gate, ran
from tests.engine.work import until, working

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("only_when_told")]


@stage
async def ry_first(number: int) -> int:
    ran["first"] += 1
    return number


@stage(cache="1h", attempts=2, backoff=Backoff.fixed("1h"))
async def ry_second(number: int) -> int:
    ran["second"] += 1
    if "service" in broken:
        raise RuntimeError("no service")
    if "gate" in broken:
        await gate.stop_async()
    return number


@stage
async def ry_third(number: int, third: int = 1) -> int:
    ran["third"] += 1
    return number * third


@pipeline
def ry_chain(number: int) -> int:
    return ry_third(ry_second(ry_first(number)), 1)


@stage
async def ry_numbers(count: int) -> list[int]:
    return list(range(count))


@stage(cache="1h")
async def ry_each(number: int) -> int:
    ran["each"] += 1
    return number


@pipeline
def ry_many(count: int) -> list[int]:
    return ry_each.map(ry_numbers(count))


CHAIN = (ry_first, ry_second, ry_third)


async def ended_again(flow: FlowHandle[Any]) -> FlowSnapshot:
    """The flow at the end of its second run."""
    return await until(flow, lambda snapshot: snapshot.run == 2 and snapshot.is_final)


def told(snapshot: FlowSnapshot) -> list[tuple[int, Reused | None]]:
    """Of each stage how often it ran, and whose result it has."""
    return [(stage.runs, stage.reused) for stage in snapshot.graph]


async def test_what_was_reused_and_runs_again_with_an_earlier_stage_is_not_told_as_reused(producer: FlowProducer) -> None:
    async with working(producer, *CHAIN):
        await (await producer.add(ry_chain(1), id="ry-1")).result(30)
        flow = await producer.add(ry_chain(1))
        await flow.result(30)
        assert told(await flow.inspect()) == [(1, None), (0, Reused("ry-1", "ry_second")), (1, None)]
        await flow.retry(from_stage="ry_first")
        assert told(await ended_again(flow)) == [(2, None), (1, None), (2, None)]
    assert ran["second"] == 2
    assert (await flow.inspect()).stage("ry_second").history == ()


async def test_one_that_backs_off_after_a_retry_by_hand_waits_for_no_other_flow(producer: FlowProducer) -> None:
    async with working(producer, *CHAIN):
        await (await producer.add(ry_chain(1))).result(30)
        flow = await producer.add(ry_chain(1))
        await flow.result(30)
        broken.add("service")
        await flow.retry(from_stage="ry_first")
        snapshot = await until(flow, lambda snapshot: snapshot.stage("ry_second").state == "scheduled")
        reason = snapshot.stage("ry_second").reason
        assert reason is not None
        assert reason.code == "back_off"
        await hasten(producer._open.store, [f"1:{flow.id}"])
        assert (await flow.inspect()).stage("ry_second").state == "scheduled"
    assert ran["second"] == 2


async def test_runs_are_counted_right_where_one_failed_and_then_waited_for_another(producer: FlowProducer) -> None:
    once = ry_second.with_options(attempts=1)

    @pipeline
    def ry_once(number: int) -> int:
        return once(ry_first(number))

    async with working(producer, *CHAIN):
        broken.add("service")
        flow = await producer.add(ry_once(1))
        with pytest.raises(FlowFailed):
            await flow.result(30)
        broken.clear()
        broken.add("gate")
        other = await producer.add(once.flow(1))
        await gate.until_arrived()
        await flow.retry(from_stage="ry_first")
        waiting = await until(flow, lambda snapshot: snapshot.stage("ry_second").state == "scheduled")
        gate.opened.set()
        again = await ended_again(flow)
    assert (waiting.stage("ry_second").runs, told(again)[1]) == (1, (1, Reused(other.id, "ry_second")))
    assert ran["second"] == 2


async def test_what_was_reused_and_is_kept_by_a_retry_in_parts_still_names_its_source(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        return None

    async with working(producer, *CHAIN):
        await (await producer.add(ry_chain(1), id="ry-2")).result(30)
        flow = await producer.add(ry_chain(1))
        await flow.result(30)
        with monkeypatch.context() as patch:
            patch.setattr(retries, "PART_MAX", 1)
            patch.setattr(retries, "finish_retry", gone)
            await flow.retry(from_stage="ry_third", overrides={"third": 2})
        # Its caller is gone: what is still to be done can't be told from what stays.
        assert told(await flow.inspect()) == [(1, None), (0, Reused("ry-2", "ry_second")), (1, None)]
        await producer._open.store.finish_retry(flow.id)
        kept = told(await ended_again(flow))
    assert kept == [(1, Reused(flow.id, "ry_first")), (0, Reused("ry-2", "ry_second")), (2, None)]


async def test_items_that_were_reused_and_run_again_are_told_so(producer: FlowProducer) -> None:
    async def items_of(flow: FlowHandle[Any]) -> list[tuple[int, Reused | None, int]]:
        graph = (await flow.inspect(items=True)).graph
        items = next(stage.items for stage in graph if stage.items is not None)
        return [(item.runs, item.reused, len(item.history)) for item in items.listed]

    async with working(producer, ry_numbers, ry_each):
        await (await producer.add(ry_many(2), id="ry-3")).result(30)
        flow = await producer.add(ry_many(2))
        await flow.result(30)
        assert [(runs, reused and reused.flow) for runs, reused, _ in await items_of(flow)] == [(0, "ry-3")] * 2
        await flow.retry(from_stage="ry_numbers")
        await ended_again(flow)
        assert await items_of(flow) == [(1, None, 0)] * 2
    assert ran["each"] == 4
