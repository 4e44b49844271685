"""Flows that stages spawned, when the flow above ends without them: told at once, and never beyond repair."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, Unrecoverable, context, pipeline, stage
from flowq.errors import FlowFailed
from flowq.store import retries
from flowq.store.store import Store
from tests.conformance.after_the_end import beneath, hooks_completed
from tests.conformance.scene import broken, gate, ran
from tests.engine.work import told, until, working

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _no_duty(monkeypatch: pytest.MonkeyPatch) -> None:
    """None comes by to finish what somebody else should."""
    monkeypatch.setattr("flowq.engine.worker.worker._CLOSE_SECONDS", 3_600)


@stage
async def eb_held(number: int) -> int:
    await gate.stop_async()
    ran["held"] += 1
    return number


@stage
async def eb_deep(number: int) -> int:
    return await context().spawn(eb_held, number)


@stage
async def eb_deeper(number: int) -> int:
    return await context().spawn(eb_deep, number)


@stage
async def eb_fails(number: int) -> int:
    await gate.until_arrived()
    if "fails" in broken:
        raise Unrecoverable("it is broken")
    return number


@stage
async def eb_sum(one: int, other: int) -> int:
    return one + other


@pipeline(fail_fast=True)
def eb_at_once(number: int) -> int:
    return eb_sum(eb_deeper(number), eb_fails(number))


@stage
async def eb_top(number: int) -> int:
    return await context().spawn(eb_at_once, number)


@stage
async def eb_undo(made: int) -> None:
    ran[f"undo {made}"] += 1


@stage(compensate=eb_undo)
async def eb_make(number: int) -> int:
    return number


@stage
async def eb_undo_beneath(made: int) -> None:
    ran[f"undo beneath {made}"] += 1


@stage(compensate=eb_undo_beneath)
async def eb_spawns(number: int) -> int:
    return await context().spawn(eb_make, number)


@pipeline
def eb_above(number: int) -> int:
    return eb_fails(eb_spawns(number))


EVERY = (eb_held, eb_deep, eb_deeper, eb_fails, eb_sum, eb_top, eb_make, eb_spawns, eb_undo, eb_undo_beneath)


async def test_what_stands_beneath_a_flow_that_fails_at_once_is_told_at_once(producer: FlowProducer) -> None:
    broken.add("fails")
    async with working(producer, *EVERY):
        flow = await producer.add(eb_at_once(7))
        with pytest.raises(FlowFailed, match="it is broken"):
            await flow.result(30)
        child = await beneath(producer, flow)
        grandchild = await beneath(producer, child)
        for handle in (child, grandchild):
            await until(handle, lambda snapshot: snapshot.state == "cancelled")
        assert [(known.name, known.state) for known in (await grandchild.inspect()).graph] == [("eb_held", "cancelled")]
        broken.clear()
        gate.opened.set()
        await flow.retry()
        assert await flow.result(30) == 14
    assert ran["held"] == 1


async def test_a_flow_that_completes_while_it_closes_has_completed_and_its_parent_can_be_retried(producer: FlowProducer) -> None:
    store: Store = producer._open.store
    async with working(producer, *EVERY):
        flow = await producer.add(eb_deep.flow(7))
        await gate.until_arrived()
        child = await beneath(producer, flow)
        await store.cancel(flow.id, "", 1)  # whoever cancels it goes away before it tells what is beneath
        gate.opened.set()
        await until(child, lambda snapshot: snapshot.stage("eb_held").state == "completed")
        assert await flow.retry() == 1
        assert await flow.result(30) == 7
    assert ((await child.inspect()).state, ran["held"]) == ("completed", 1)
    assert (await told(child))[-1] == "completed"


async def test_a_flow_that_was_cancelled_before_anything_of_it_ran_again_can_be_retried(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        """Whoever retries it in parts went away."""

    async def cancelled_as_it_is_retried(flow: FlowHandle[Any]) -> None:
        """All of it has completed, and yet it is cancelled."""
        with monkeypatch.context() as patched:
            patched.setattr(retries, "PART_MAX", 1)
            patched.setattr(retries, "finish_retry", gone)
            await flow.retry(from_stage="eb_*")
        assert await flow.cancel("it is not needed")
        assert {known.state for known in (await flow.inspect()).graph} == {"completed"}

    gate.opened.set()
    async with working(producer, *EVERY):
        flow = await producer.add(eb_top.flow(7))
        assert await flow.result(30) == 14
        child = await beneath(producer, flow)
        await cancelled_as_it_is_retried(child)
        await flow.retry(from_stage="eb_top")
        assert await flow.result(30) == 14, "the stage above runs it again"
        await cancelled_as_it_is_retried(child)
        assert await child.retry() == 0, "nothing of it has to run"
        assert (await child.inspect()).state == "completed"


async def test_what_a_spawned_flow_did_that_has_completed_is_undone_by_the_stage_that_spawned_it(producer: FlowProducer) -> None:
    broken.add("fails")
    gate.arrived.set()
    async with working(producer, *EVERY):
        flow = await producer.add(eb_above(7))
        with pytest.raises(FlowFailed):
            await flow.result(30)
        await hooks_completed(flow)
        child = await (await beneath(producer, flow)).inspect()
    assert (child.state, child.hooks) == ("completed", None)
    assert ran == {"undo beneath 7": 1}
