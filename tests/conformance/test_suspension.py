"""Stages that wait without holding a slot: what is true of all waits, and sleep."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest

from flowq import Backoff, FlowProducer, Unrecoverable, context, pipeline, stage
from flowq.errors import FlowFailed
from flowq.pipeline import Stage
from tests.conformance.scene import gate, ran
from tests.engine.work import told, until, working

pytestmark = pytest.mark.anyio

fences: list[int] = []
marks: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing has run."""
    fences.clear()
    marks.clear()


@stage
async def cs_naps(seconds: float) -> str:
    ran["cs_naps"] += 1
    fences.append(context().fence)
    await context().sleep(seconds)
    await context().sleep(seconds)
    return f"attempt {context().attempt}"


@stage
async def cs_catches_its_cancel() -> str:
    """As a library may."""
    with contextlib.suppress(asyncio.CancelledError):
        await gate.stop_async()
    marks.add("caught")
    await context().sleep("1h")
    return "slept"


@stage
async def cs_quick() -> str:
    return "quick"


@stage(timeout=0.4)
async def cs_short_timeout() -> str:
    for _ in range(3):
        await context().sleep(0.3)
    return "in time"


@stage(attempts=2, backoff=Backoff.none())
async def cs_fails_after_its_sleep() -> float:
    began_at = time.monotonic()
    await context().sleep("1h" if "asleep" in marks else 0.2)
    marks.add("asleep")  # a second sleep would last an hour
    if context().attempt == 1:
        raise ValueError("again, please")
    return time.monotonic() - began_at


@stage
async def cs_swallows() -> str:
    ran["cs_swallows"] += 1
    with contextlib.suppress(asyncio.CancelledError):
        await context().sleep(0.2)
        return "slept"
    return "woken too early"


@stage
async def cs_makes_an_error_of_it() -> str:
    try:
        await context().sleep(0.2)
    except asyncio.CancelledError:
        marks.add("cancelled" if context().cancelled else "not cancelled")
        raise RuntimeError("what is this?") from None
    return "slept"


@stage
async def cs_leaves_tasks_behind() -> str:
    tasks = [asyncio.create_task(context().sleep(0.2)) for _ in range(3)]
    await asyncio.wait(tasks)
    return "slept"


@stage
async def cs_blinks() -> str:
    ran["cs_blinks"] += 1
    await context().sleep(0.05)
    return "in place"


@stage
async def cs_held() -> None:
    await context().sleep("1h")


@stage
async def cs_breaks() -> None:
    await gate.stop_async()
    raise Unrecoverable("broken")


@pipeline(fail_fast=True)
def cs_fast() -> None:
    cs_held()
    cs_breaks()


@pipeline
def cs_beside() -> str:
    cs_held()
    return cs_quick()


@stage
def cs_plain() -> None:
    _ = context().sleep(1)


async def test_a_stage_that_sleeps_gives_its_slot_back_and_begins_again_at_its_first_line(producer: FlowProducer) -> None:
    async with working(producer, cs_naps, cs_quick, concurrency=1):
        flow = await producer.add(cs_naps.flow(0.3))
        assert await (await producer.add(cs_quick.flow())).result(30) == "quick"
        assert await flow.result(30) == "attempt 1"
    assert ran["cs_naps"] == 3
    assert fences == [1, 2, 3]
    events = await told(flow)
    assert events == [
        "added",
        *["claimed cs_naps", "suspended cs_naps", "resumed cs_naps"] * 2,
        "claimed cs_naps",
        "completed cs_naps",
        "completed",
    ]


async def test_a_plain_def_can_not_wait_and_says_what_to_do(producer: FlowProducer) -> None:
    async with working(producer, cs_plain):
        with pytest.raises(FlowFailed, match="async def"):
            await (await producer.add(cs_plain.flow())).result(30)


async def test_the_timeout_of_an_attempt_counts_running_time_only(producer: FlowProducer) -> None:
    async with working(producer, cs_short_timeout):
        assert await (await producer.add(cs_short_timeout.flow())).result(30) == "in time"


async def test_a_sleep_that_was_slept_is_not_slept_again_by_the_next_attempt(producer: FlowProducer) -> None:
    async with working(producer, cs_fails_after_its_sleep):
        flow = await producer.add(cs_fails_after_its_sleep.flow())
        await flow.result(30)
    assert (await flow.inspect()).graph[0].attempt == 2


@pytest.mark.parametrize("stubborn", [cs_swallows, cs_makes_an_error_of_it, cs_leaves_tasks_behind])
async def test_whatever_a_stage_makes_of_being_suspended_it_is_resumed(producer: FlowProducer, stubborn: Stage[[], str]) -> None:
    async with working(producer, stubborn):
        assert await (await producer.add(stubborn.flow())).result(30) == "slept"
    assert "not cancelled" not in marks


async def test_a_sleep_of_a_blink_is_slept_in_place(producer: FlowProducer) -> None:
    async with working(producer, cs_blinks):
        flow = await producer.add(cs_blinks.flow())
        assert await flow.result(30) == "in place"
    assert ran["cs_blinks"] == 1


async def test_a_flow_is_suspended_when_nothing_of_it_runs_or_is_ready(producer: FlowProducer) -> None:
    flow = await producer.add(cs_beside())
    async with working(producer, cs_held):
        partly = await until(flow, lambda snapshot: snapshot.stage("cs_held").state == "suspended")
    async with working(producer, cs_quick):
        wholly = await until(flow, lambda snapshot: snapshot.stage("cs_quick").state == "completed")
    assert (partly.state, wholly.state) == ("running", "suspended")
    reason = wholly.stage("cs_held").reason
    assert reason is not None
    assert reason.code == "sleep"
    assert [one.id for one in await producer.list(state="suspended")] == [flow.id]


async def test_what_is_suspended_ends_with_a_flow_that_fails_at_once(producer: FlowProducer) -> None:
    async with working(producer, cs_held, cs_breaks):
        flow = await producer.add(cs_fast())
        await until(flow, lambda snapshot: snapshot.stage("cs_held").state == "suspended")
        gate.opened.set()
        with pytest.raises(FlowFailed, match="broken"):
            await flow.result(30)
    assert (await flow.inspect()).stage("cs_held").state == "cancelled"


async def test_a_flow_that_was_cancelled_while_suspended_begins_anew_when_it_is_retried(producer: FlowProducer) -> None:
    async with working(producer, cs_naps):
        flow = await producer.add(cs_naps.flow(0.3))
        await until(flow, lambda snapshot: snapshot.state == "suspended")
        await flow.cancel()
        assert await flow.retry() == 1
        assert await flow.result(30) == "attempt 1"


async def test_a_stage_that_caught_its_cancellation_ends_at_its_next_wait(producer: FlowProducer) -> None:
    async with working(producer, cs_catches_its_cancel, cs_quick, concurrency=1):
        flow = await producer.add(cs_catches_its_cancel.flow())
        await gate.until_arrived()
        assert await flow.cancel()
        assert await (await producer.add(cs_quick.flow())).result(30) == "quick", "its slot is free"
    assert marks == {"caught"}
