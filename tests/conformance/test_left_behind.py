"""What a stage leaves behind in a task, or cuts short, neither suspends it nor keeps a place."""

from __future__ import annotations

import asyncio
import threading

import pytest

from flowq import FlowProducer, context, limit, stage
from flowq.store.limits import Limits
from flowq.store.server import Server
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


async def test_a_wait_that_is_left_behind_does_not_suspend_a_stage_whose_function_has_returned(producer: FlowProducer) -> None:
    RUNS.clear()
    async with working(producer, lb_leaves_a_wait):
        assert len(await (await producer.add(lb_leaves_a_wait.flow())).result(30)) == 2_000_000
    assert RUNS == [1]
    LEFT.clear()


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
    limits = Limits(producer._open.store)

    async def holds(count: int) -> bool:
        state = await limits.state("lb_one")
        return state is not None and state.held == count

    GRANTED.clear()
    async with working(producer, lb_cut_short_in_a_loop_of_its_own):
        flow = await producer.add(lb_cut_short_in_a_loop_of_its_own.flow())
        await in_the_end(lambda: holds(1))
        GRANTED.set()
        assert await flow.result(30) == "cut short"
        await in_the_end(lambda: holds(0))


async def test_what_a_url_says_of_times_cuts_nobody_off(valkey_url: str) -> None:
    server = Server(f"{valkey_url}?timeout=5&socket_timeout=1", "times", 1)
    assert await server.one(("ECHO", "a")) == b"a"
    assert server.line().socket_timeout is None
    await server.close()
