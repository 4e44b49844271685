"""Flows beneath a stage that is tried again while some of them still run."""

from __future__ import annotations

import asyncio

import pytest

from flowq import FlowHandle, FlowProducer, Unrecoverable, context, stage
from flowq.errors import FlowFailed
from tests.conformance.scene import broken, gate, ran
from tests.engine.work import until, working

pytestmark = pytest.mark.anyio


@stage
async def sa_fails_once(number: int) -> int:
    ran["fails once"] += 1
    await gate.until_arrived()
    if ran["fails once"] == 1:
        raise Unrecoverable("it is broken once")
    return number


@stage
async def sa_held(number: int) -> int:
    ran["held"] += 1
    await gate.stop_async()
    if "held" in broken:
        raise Unrecoverable("what was held is broken")
    return number


@stage(attempts=2, backoff=None)
async def sa_parent() -> int:
    return sum(await asyncio.gather(context().spawn(sa_fails_once, 1), context().spawn(sa_held, 2)))


EVERY = (sa_fails_once, sa_held, sa_parent)


async def found_running(flow: FlowHandle[int]) -> str:
    """The id of the flow beneath which the second attempt of the stage found running, and waits for."""
    snapshot = await until(
        flow,
        lambda seen: (
            (seen.graph[0].state, seen.graph[0].attempt) == ("suspended", 2)
            and {child.state for child in seen.spawned} == {"completed", "running"}
        ),
    )
    (child,) = [child.id for child in snapshot.spawned if child.state == "running"]
    return child


async def test_what_somebody_cancels_stays_cancelled_though_an_earlier_attempt_began_it(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(sa_parent.flow())
        await producer.flow(await found_running(flow)).cancel("not needed")
        with pytest.raises(FlowFailed, match=r"FlowCancelled: .*was cancelled: not needed"):
            await flow.result(30)
    assert ran == {"fails once": 2, "held": 1}


async def test_what_fails_in_the_last_attempt_is_not_run_again_though_an_earlier_one_began_it(producer: FlowProducer) -> None:
    broken.add("held")
    async with working(producer, *EVERY):
        flow = await producer.add(sa_parent.flow())
        await found_running(flow)
        gate.opened.set()
        with pytest.raises(FlowFailed, match="what was held is broken"):
            await flow.result(30)
    assert ran == {"fails once": 2, "held": 1}


async def test_what_a_later_attempt_found_running_gives_it_its_result(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(sa_parent.flow())
        await found_running(flow)
        gate.opened.set()
        assert await flow.result(30) == 3
    assert ran == {"fails once": 2, "held": 1}


async def test_a_failure_that_is_on_its_way_is_not_overtaken_by_a_wait(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a machine so busy that the time is over before the loop's next turn."""
    monkeypatch.setattr("flowq.engine.run.waits._QUIET_SECONDS", 0.0)
    async with working(producer, *EVERY):
        flow = await producer.add(sa_parent.flow())
        await found_running(flow)
        gate.opened.set()
        assert await flow.result(30) == 3
