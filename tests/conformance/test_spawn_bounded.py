"""How long a stage waits for what it spawned is bounded by the deadline of that flow, not by a timeout in the stage."""

from __future__ import annotations

import asyncio

import pytest

from flowq import FlowProducer, context, stage
from flowq.errors import FlowFailed
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
