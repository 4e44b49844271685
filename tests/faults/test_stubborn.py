"""Stages that do not end when they are told to: they are told within a second, then made to, and nobody else pays for it."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from flowq import FlowSpec
from tests.faults import stages
from tests.faults.plant import Plant, ended, producer_of
from tests.stories.processes import all_processes, needs_proc

pytestmark = [
    pytest.mark.fault,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    needs_proc,
]

# From being told to being made to.
GRACE_SECONDS = 5.0


@pytest.mark.parametrize("spec", [stages.clutching.flow(), stages.unlistening.flow()], ids=["clutching", "unlistening"])
async def test_a_cancelled_stage_in_a_process_of_its_own_that_goes_on_loses_that_process(
    plant: Plant, spec: FlowSpec[Any]
) -> None:
    plant.worker()
    name = spec.plan.stages[0].name
    async with producer_of(plant) as producer:
        flow = await producer.add(spec)
        (begun,) = await asyncio.to_thread(plant.until_noted, name)
        assert await flow.cancel("enough")
        assert (await ended(flow)).state == "cancelled"
        await asyncio.to_thread(plant.until, lambda: begun.pid not in all_processes(), 4 * GRACE_SECONDS)
        quick = await producer.add(stages.quick_alone.flow())
        assert await quick.result(30) == "done"
        snapshot = await flow.inspect()
        assert (snapshot.stage(name).crashes, (await quick.inspect()).stage("quick_alone").crashes) == (0, 0)
    if name == "clutching":
        assert plant.noted(name, "told")


@pytest.mark.alone
async def test_a_running_stage_is_told_within_a_second_that_it_was_cancelled(plant: Plant) -> None:
    plant.worker()
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.work.flow(600))
        await asyncio.to_thread(plant.until_noted, "work")
        cancelled_at = time.time()
        await flow.cancel()
        (end,) = await asyncio.to_thread(plant.until, lambda: plant.noted("work", "end"), 30)
    assert end.at - cancelled_at < 1.0


async def test_a_program_that_does_not_end_when_it_is_asked_to_is_killed(plant: Plant) -> None:
    plant.worker()
    written = plant.directory / "journal.pid"
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.clinging.flow())
        pid = int(await asyncio.to_thread(plant.until, lambda: written.exists() and written.read_text().strip(), 30))
        await flow.cancel()
        await asyncio.to_thread(plant.until, lambda: pid not in all_processes(), 4 * GRACE_SECONDS)
        assert (await ended(flow)).state == "cancelled"


async def test_a_stage_that_holds_the_interpreter_and_tells_no_progress_is_killed_and_retried(plant: Plant) -> None:
    plant.worker()
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.mute.flow())
        assert await flow.result(60) == 2
        (first,) = (await flow.inspect()).stage("mute").history
    assert first.outcome == "retried"
    assert first.cause.startswith("StageStalled: stage mute told no progress for 1 s")
