"""A worker that is killed while others wait for what it computes."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.work import until
from tests.faults import stages
from tests.faults.plant import Plant, ended, kill_tree, producer_of
from tests.stories.processes import needs_proc

pytestmark = [
    pytest.mark.fault,
    pytest.mark.anyio,
    pytest.mark.timeout(180),
    needs_proc,
]


async def test_when_the_worker_that_computes_is_killed_it_is_computed_once_elsewhere(plant: Plant) -> None:
    victim = plant.short_lease_worker(name="victim")
    gate = plant.directory / "gate"
    async with producer_of(plant) as producer:
        first = await producer.add(stages.until_file_once.flow(str(gate)))
        (begun,) = await asyncio.to_thread(plant.until_noted, "until_file_once")
        others = [await producer.add(stages.until_file_once.flow(str(gate))) for _ in range(3)]
        for flow in others:
            await until(flow, lambda snapshot: snapshot.graph[0].reason is not None and snapshot.graph[0].state == "scheduled")
        kill_tree(victim)
        plant.short_lease_worker(name="heir")
        again = (await asyncio.to_thread(plant.until_noted, "until_file_once", 2))[1]
        gate.touch()
        snapshots = [await ended(flow) for flow in (first, *others)]
    assert again.pid != begun.pid
    assert {snapshot.state for snapshot in snapshots} == {"completed"}
    assert sum(snapshot.graph[0].reused is not None for snapshot in snapshots) == 3
