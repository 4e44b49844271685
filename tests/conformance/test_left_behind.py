"""What a stage leaves behind in a task, or cuts short, neither suspends it nor keeps a place."""

from __future__ import annotations

import asyncio
import threading
from typing import Any, cast

import pytest

from flowq import FlowHandle, FlowProducer, context, limit, stage
from flowq.engine.run.limiter import HeldPermit, Limiter
from flowq.errors import FlowCancelled
from flowq.pipeline import Stage
from flowq.store.limits import Limits
from tests.engine.waiting import in_the_end
from tests.engine.work import working

pytestmark = pytest.mark.anyio

RUNS: list[int] = []
GRANTED = threading.Event()
LEFT: set[asyncio.Task[object]] = set()


@stage
async def lb_leaves_a_wait() -> str:
    RUNS.append(1)
    LEFT.add(asyncio.create_task(context().wait_for_signal("never", object)))
    return "x" * 2_000_000


@stage
async def lb_leaves_who_asks_whether_to_wait() -> str:
    RUNS.append(1)
    LEFT.add(asyncio.create_task(context().wait_for_signal("never", object)))
    await asyncio.sleep(0)
    return "x" * 2_000_000


@stage
async def lb_leaves_what_will_wait() -> str:
    async def later() -> object:
        return await context().wait_for_signal("never", object)

    RUNS.append(1)
    LEFT.add(asyncio.create_task(later()))
    return "x" * 2_000_000


@stage
async def lb_leaves_a_spawn() -> str:
    RUNS.append(1)
    LEFT.add(asyncio.create_task(context().spawn(lb_spawned)))
    return "x" * 2_000_000


@stage
async def lb_leaves_what_will_spawn() -> str:
    async def later() -> object:
        return await context().spawn(lb_spawned)

    RUNS.append(1)
    LEFT.add(asyncio.create_task(later()))
    return "x" * 2_000_000


@stage
async def lb_spawned() -> None:
    RUNS.append(2)


LEAVING = [
    lb_leaves_a_wait,
    lb_leaves_who_asks_whether_to_wait,
    lb_leaves_what_will_wait,
    lb_leaves_a_spawn,
    lb_leaves_what_will_spawn,
]


@pytest.mark.parametrize("leaves", LEAVING, ids=lambda one: one.name)
async def test_a_wait_that_is_left_behind_does_not_suspend_a_stage_whose_function_has_returned(
    producer: FlowProducer, leaves: Stage[[], str]
) -> None:
    RUNS.clear()
    async with working(producer, leaves, lb_spawned):
        flow = await producer.add(leaves.flow())
        assert len(await flow.result(30)) == 2_000_000
        await in_the_end(all_left_are_cancelled)
        assert not (await flow.inspect()).spawned
    assert RUNS == [1]
    LEFT.clear()


async def all_left_are_cancelled() -> bool:
    return all(task.cancelled() for task in LEFT)


@stage
def lb_cut_short_in_a_loop_of_its_own() -> str:
    async def ask() -> None:
        async with asyncio.timeout(0), limit("lb_one"):
            raise AssertionError("it was cut short before")

    async def main() -> str:
        asking = asyncio.create_task(ask())
        await asyncio.sleep(0)
        GRANTED.wait(30)  # this loop is held up meanwhile
        try:
            await asking
        except TimeoutError:
            return "cut short"
        return "not cut short"

    return asyncio.run(main())


async def test_a_place_that_comes_too_late_in_a_loop_of_its_own_is_given_back(producer: FlowProducer) -> None:
    await producer.set_limit("lb_one", concurrency=1)
    GRANTED.clear()
    async with working(producer, lb_cut_short_in_a_loop_of_its_own):
        flow = await producer.add(lb_cut_short_in_a_loop_of_its_own.flow())
        await in_the_end(lambda: are_held(producer, "lb_one", 1))
        GRANTED.set()
        assert await flow.result(30) == "cut short"
        await in_the_end(lambda: are_held(producer, "lb_one", 0))


@stage
def lb_cut_short_when_it_was_granted() -> str:
    async def ask() -> str:
        try:
            async with asyncio.timeout(0.2), limit("lb_held_up"):
                return "granted"
        except TimeoutError:
            return "cut short"

    try:
        return asyncio.run(ask())
    finally:
        GRANTED.set()


@stage
def lb_cancelled_when_it_was_granted() -> str:
    context().cancel()
    try:
        with limit("lb_held_up"):
            return "granted"
    except asyncio.CancelledError:
        return "cut short"
    finally:
        GRANTED.set()


@pytest.mark.parametrize(
    "function", [lb_cut_short_when_it_was_granted, lb_cancelled_when_it_was_granted], ids=lambda one: one.name
)
async def test_a_place_that_is_granted_while_nobody_hears_of_it_is_given_back(
    producer: FlowProducer, function: Stage[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    acquired = Limiter._acquired

    async def acquired_in_a_busy_loop(*args: Any) -> HeldPermit:
        permit = await acquired(*args)
        asyncio.get_running_loop().call_soon(GRANTED.wait, 30)  # what happens to be next in the worker's loop
        return permit

    monkeypatch.setattr(Limiter, "_acquired", acquired_in_a_busy_loop)
    GRANTED.clear()
    await producer.set_limit("lb_held_up", concurrency=1)
    async with working(producer, function):
        assert await (await producer.add(function.flow())).result(30) == "cut short"
        await in_the_end(lambda: are_held(producer, "lb_held_up", 0))


async def are_held(producer: FlowProducer, name: str, count: int) -> bool:
    state = await Limits(producer._open.store).state(name)
    return state is not None and state.held == count


@stage
async def lb_has_waited_enough() -> None:
    try:
        async with asyncio.timeout(0.5), limit("lb_used_up"):
            raise AssertionError("somebody else has it")
    except TimeoutError:
        LEFT.add(cast("asyncio.Task[object]", asyncio.current_task()))
        await asyncio.Event().wait()


@stage
async def lb_uses_it_up() -> None:
    async with limit("lb_used_up"):
        await asyncio.Event().wait()


async def test_a_wait_for_a_place_that_was_cut_short_is_shown_no_longer(producer: FlowProducer) -> None:
    LEFT.clear()
    await producer.set_limit("lb_used_up", concurrency=1)

    async def waits_for_it(flow: FlowHandle[None]) -> bool:
        (shown,) = (await flow.inspect()).graph
        return shown.reason is not None

    async with working(producer, lb_uses_it_up, lb_has_waited_enough):
        flows = [await producer.add(lb_uses_it_up.flow())]
        await in_the_end(lambda: are_held(producer, "lb_used_up", 1))
        flows.append(await producer.add(lb_has_waited_enough.flow()))

        await in_the_end(lambda: waits_for_it(flows[1]))

        async def is_shown_no_longer() -> bool:
            return bool(LEFT) and not await waits_for_it(flows[1])

        await in_the_end(is_shown_no_longer)
        for flow in flows:
            await flow.cancel()
            with pytest.raises(FlowCancelled):
                await flow.result(30)
    LEFT.clear()
