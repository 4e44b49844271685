"""Suspended stages while their workers are killed, told to stop, or lose the server."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from flowq import FlowHandle
from flowq.model.snapshot import FlowSnapshot
from tests.faults import stages
from tests.faults.plant import PATIENCE, Plant, ended, kill_tree, producer_of
from tests.stories.processes import needs_proc

pytestmark = [
    pytest.mark.fault,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    needs_proc,
]


async def seen(flow: FlowHandle[int], holds: Callable[[FlowSnapshot], object]) -> FlowSnapshot:
    async with asyncio.timeout(PATIENCE):
        while not holds(snapshot := await flow.inspect()):  # noqa: ASYNC110  another process moves it
            await asyncio.sleep(0.05)
    return snapshot


async def test_a_suspended_stage_outlives_all_workers_and_the_server(plant: Plant) -> None:
    first = plant.worker()
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.approved.flow())
        await seen(flow, lambda snapshot: snapshot.state == "suspended")
        kill_tree(first)
        plant.kill_server()
        plant.start_server()
        assert await flow.signal("approved", 7)
        assert (await flow.inspect()).graph[0].state == "ready"
        plant.worker()
        snapshot = await ended(flow)
    done = snapshot.graph[0]
    assert (snapshot.state, snapshot.result, done.attempt, done.crashes) == ("completed", 7, 1, 0)


async def test_a_stage_in_a_process_of_its_own_can_be_suspended(plant: Plant) -> None:
    plant.worker("-c", "1")
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.approved_alone.flow())
        await seen(flow, lambda snapshot: snapshot.state == "suspended")
        assert await (await producer.add(stages.approved_alone.flow())).signal("approved", 1)
        await flow.signal("approved", 8)
        assert await flow.result(PATIENCE) == 8


async def test_what_was_spawned_is_found_again_after_its_parents_process_was_killed(plant: Plant, tmp_path: Path) -> None:
    plant.worker()
    released = tmp_path / "released"
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.spawns.flow(str(released)))
        (inner,) = await asyncio.to_thread(plant.until_noted, "until_file")
        os.kill(inner.pid, signal.SIGKILL)
        await asyncio.to_thread(plant.until_noted, "until_file", 2)
        released.touch()
        snapshot = await ended(flow)
    assert (snapshot.state, snapshot.result) == ("completed", 101)
    assert len(snapshot.spawned) == 1


async def test_a_worker_that_is_told_to_stop_does_not_wait_for_suspended_stages(plant: Plant) -> None:
    worker = plant.worker("--drain-timeout", "60s")
    async with producer_of(plant) as producer:
        flow = await producer.add(stages.approved.flow())
        await seen(flow, lambda snapshot: snapshot.state == "suspended")
        worker.send_signal(signal.SIGTERM)
        assert await asyncio.to_thread(worker.wait, 20) == 0
        assert (await flow.inspect()).state == "suspended"
