"""Stages that wait without holding a slot: sleep."""

from __future__ import annotations

from collections import Counter

import pytest

from flowq import FlowProducer, context, stage
from flowq.errors import FlowFailed
from tests.engine.work import told, working

pytestmark = pytest.mark.anyio

ran: Counter[str] = Counter()
fences: list[int] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing has run."""
    ran.clear()
    fences.clear()


@stage
async def cs_naps(seconds: float) -> str:
    ran["cs_naps"] += 1
    fences.append(context().fence)
    await context().sleep(seconds)
    await context().sleep(seconds)
    return f"attempt {context().attempt}"


@stage
async def cs_quick() -> str:
    return "quick"


@stage
def cs_plain() -> None:
    context().sleep(1)


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
