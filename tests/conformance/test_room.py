"""Stages that need room of a worker's host are claimed only where it is free."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowProducer, Worker, stage
from flowq.errors import InvalidValue
from tests.conformance.scene import busy, gate, most
from tests.engine.work import until, working

pytestmark = pytest.mark.anyio


@stage(needs={"vram": 20})
async def cr_large(number: int) -> int:
    await busy(vram=20)
    return number


@stage(needs={"vram": 10, "gpu": 1})
async def cr_small(number: int) -> int:
    await busy(vram=10, gpu=1)
    return number


@stage
async def cr_plain(number: int) -> int:
    return number


@stage(needs={"vram": 20})
async def cr_held(number: int) -> int:
    await gate.stop_async()
    return number


EVERY = (cr_large, cr_small, cr_plain, cr_held)


async def test_stages_of_all_processes_of_a_host_share_what_it_has(producer: FlowProducer) -> None:
    has = {"vram": 40, "gpu": 3}
    async with working(producer, *EVERY, has=has, concurrency=20), working(producer, *EVERY, has=has, concurrency=20):
        flows = [await producer.add(one.flow(number)) for number in range(25) for one in (cr_large, cr_small, cr_plain)]
        assert [await flow.result(50) for flow in flows] == [number for number in range(25) for _ in range(3)]
    assert 20 <= most["vram"] <= 40
    assert 1 <= most["gpu"] <= 3


async def test_what_needs_nothing_runs_though_there_is_no_room_for_others(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, has={"vram": 20}):
        held = await producer.add(cr_held.flow(1))
        await gate.until_arrived()
        waiting = await producer.add(cr_large.flow(2))
        assert await (await producer.add(cr_plain.flow(3))).result(30) == 3
        assert (await waiting.inspect()).graph[0].state == "ready"
        gate.opened.set()
        assert [await flow.result(30) for flow in (held, waiting)] == [1, 2]


@pytest.mark.parametrize("has", [{}, {"gpu": 4}, {"vram": 19, "gpu": 1}])
async def test_a_stage_that_no_worker_has_room_for_says_so(producer: FlowProducer, has: dict[str, int]) -> None:
    async with working(producer, *EVERY, has=has):
        assert await (await producer.add(cr_plain.flow(0))).result(30) == 0
        flow = await producer.add(cr_large.flow(1))
        snapshot = await until(flow, lambda found: found.graph[0].reason is not None)
        reason = snapshot.graph[0].reason
        assert reason is not None
        assert (reason.code, reason.on) == ("no_room", ("vram",))
        assert reason.sentence == "needs vram=20, which no worker of queue default has"


async def test_queue_slots_and_room_hold_together(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, has={"vram": 60, "gpu": 9}, queues={"default": 2}, concurrency=20):
        flows = [await producer.add(one.flow(number)) for number in range(10) for one in (cr_large, cr_small, cr_plain)]
        assert [await flow.result(50) for flow in flows] == [number for number in range(10) for _ in range(3)]
    assert most["vram"] <= 40


@pytest.mark.parametrize(
    "wrong", [{"vram": 0}, {"vram": -1}, {"vram": 1.5}, {"vram": True}, {"v ram": 1}, ["vram"], {"vram": 10**6}]
)
def test_room_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidValue):
        Worker("redis://localhost", stages=[cr_plain], has=wrong)
    with pytest.raises(InvalidValue):
        stage(needs=wrong)
