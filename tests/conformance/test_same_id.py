"""An id that is used again: what still runs of an earlier flow, which was cancelled and removed, counts for that one only."""

from __future__ import annotations

import asyncio

import pytest

from flowq import FlowHandle, FlowProducer, pipeline, stage
from tests.conformance.scene import gate, ran
from tests.engine.waiting import in_the_end
from tests.engine.work import PATIENCE, outcome, working

pytestmark = pytest.mark.anyio

# That a stage has begun, and was stopped; and that two run at once.
events: dict[str, asyncio.Event] = {}


@stage
async def si_clean_up(text: str) -> str:
    ran[text] += 1
    events["begun"].set()
    try:
        await asyncio.Event().wait()
    finally:
        if text == "first":
            await gate.stop_async()
        ran[f"{text} stopped"] += 1
        events["stopped"].set()
    return text


@stage
async def si_meet(name: str) -> str:
    ran[name] += 1
    if ran["one"] and ran["other"]:
        events["met"].set()
    await events["met"].wait()
    return name


@pipeline
def si_flow(text: str) -> str:
    return si_clean_up(text)


@pytest.fixture(autouse=True)
def _nothing_has_begun() -> None:
    events.update({name: asyncio.Event() for name in ("begun", "stopped", "met")})


async def _removed(producer: FlowProducer, flow: FlowHandle[str]) -> None:
    await flow.cancel()

    async def gone() -> bool | None:  # one that was cancelled in this very millisecond is not older than none
        return (await producer.prune(state="cancelled")).done == 1 or None

    await in_the_end(gone, PATIENCE)


async def _added_again(producer: FlowProducer) -> FlowHandle[str]:
    """The later flow runs while a run of the earlier one still cleans up, and ends before it."""
    earlier = await producer.add(si_flow("first"), id="same")
    async with asyncio.timeout(PATIENCE):
        await events["begun"].wait()
        events["begun"].clear()
        await _removed(producer, earlier)
        later = await producer.add(si_flow("second"), id="same")
        await events["begun"].wait()
        gate.opened.set()
        await events["stopped"].wait()
        events["stopped"].clear()
    assert ran["first stopped"] == ran["second"] == 1
    return later


async def test_who_runs_a_flow_that_has_the_id_of_a_removed_one_is_told_that_it_was_cancelled(producer: FlowProducer) -> None:
    async with working(producer, si_clean_up, concurrency=2):
        later = await _added_again(producer)
        await later.cancel()
        async with asyncio.timeout(PATIENCE):
            await events["stopped"].wait()
    assert ran["second stopped"] == 1


async def test_a_flow_that_has_the_id_of_a_removed_one_costs_its_worker_no_slot(producer: FlowProducer) -> None:
    async with working(producer, si_clean_up, si_meet, concurrency=2):
        later = await _added_again(producer)
        await later.cancel()
        names = ["one", "other"]
        flows = [await producer.add(si_meet.flow(name)) for name in names]
        assert [await outcome(flow) for flow in flows] == names
