"""How long a stage waits for what it spawned is bounded by the deadline of that flow, not by a timeout in the stage."""

from __future__ import annotations

import asyncio

import pytest

from flowq import Backoff, FlowProducer, context, stage
from flowq.errors import FlowDeadlinePassed, FlowFailed
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@stage
async def sb_endless() -> int:
    await asyncio.Event().wait()
    return 1


@stage
async def sb_patient() -> str:
    try:
        return str(await context().spawn(sb_endless.flow().with_options(deadline="300ms")))
    except FlowFailed:
        return "too late"


async def test_the_deadline_of_a_spawned_flow_bounds_the_wait_for_it(producer: FlowProducer) -> None:
    async with working(producer, sb_endless, sb_patient):
        assert await (await producer.add(sb_patient.flow())).result(30) == "too late"


@stage(attempts=3, backoff=Backoff.none())
async def sb_patient_again() -> str:
    tried = context().attempt
    try:
        return str(await context().spawn(sb_endless.flow().with_options(deadline="300ms")))
    except FlowDeadlinePassed:
        if tried < 3:
            raise
        return f"too late {tried} times"


async def test_it_bounds_the_wait_of_each_attempt_also_of_one_after_a_retry_by_hand(producer: FlowProducer) -> None:
    async with working(producer, sb_endless, sb_patient_again):
        flow = await producer.add(sb_patient_again.flow())
        assert await flow.result(30) == "too late 3 times"
        await flow.retry(from_stage="sb_patient_again")
        assert await flow.result(30) == "too late 3 times"


@stage(attempts=2, backoff=Backoff.none())
async def sb_bounded_at_last() -> str:
    deadline = "300ms" if context().attempt == 2 else None
    try:
        return str(await context().spawn(sb_endless_later.flow().with_options(deadline=deadline), key="one"))
    except FlowDeadlinePassed:
        return "too late"


@stage
async def sb_endless_later() -> int:
    if context().fence == 1:
        raise OSError("not yet")
    await asyncio.Event().wait()
    return 1


async def test_a_flow_that_failed_runs_again_within_the_deadline_that_it_is_spawned_with_then(producer: FlowProducer) -> None:
    async with working(producer, sb_endless_later, sb_bounded_at_last):
        assert await (await producer.add(sb_bounded_at_last.flow())).result(30) == "too late"
