"""How far the failure of a stage reaches: to what waits for its time, to what never ran, and when a process died of it."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, StageFailure, Unrecoverable, context, pipeline, stage, tolerate
from flowq.errors import FlowFailed
from tests.conformance.scene import broken, gate, ran
from tests.engine.work import PATIENCE, outcome, until, working
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio


@stage
async def ed_part(number: int) -> int:
    ran[context().stage] += 1
    if context().stage in broken:
        raise Unrecoverable("broken")
    return number


@stage
async def ed_held(number: int) -> int:
    await gate.stop_async()
    return number


@stage
async def ed_sum(parts: list[int]) -> int:
    return sum(parts)


@stage
async def ed_either(part: int | StageFailure) -> str:
    return f"{part.kind} after {part.attempts}" if isinstance(part, StageFailure) else str(part)


@pipeline(fail_fast=True)
def ed_fast(number: int) -> int:
    later = ed_part.with_options(name="later", delay="1h")(number)
    return ed_sum([ed_held(number), ed_part.with_options(name="broken")(ed_held.with_options(name="first")(number)), later])


@pipeline
def ed_far(number: int) -> str:
    return ed_either(tolerate(ed_part.with_options(name="middle")(ed_part(number))))


@pipeline
def ed_near(number: int) -> str:
    return ed_either(tolerate(ed_part(number)))


@pipeline
def ed_both(number: int) -> int:
    return ed_sum([ed_part(number), ed_held(number)])


EVERY = (ed_part, ed_held, ed_sum, ed_either)


async def test_where_a_flow_fails_at_once_what_waits_for_its_time_is_cancelled_too(producer: FlowProducer) -> None:
    broken.add("broken")
    async with working(producer, *EVERY):
        flow = await producer.add(ed_fast(1))
        await until(flow, lambda now: now.stage("later").state == "scheduled")
        gate.opened.set()
        with pytest.raises(FlowFailed):
            await flow.result(PATIENCE)
    snapshot = await flow.inspect()
    assert (snapshot.stage("later").state, snapshot.root_cause) == ("cancelled", "broken")


async def test_what_is_tolerated_is_the_stages_own_failure_and_not_that_of_its_children(producer: FlowProducer) -> None:
    broken.add("ed_part")
    async with working(producer, *EVERY):
        flow = await producer.add(ed_far(1))
        with pytest.raises(FlowFailed) as failure:
            await flow.result(PATIENCE)
    assert failure.value.stage == "ed_part"
    reason = (await flow.inspect()).stage("ed_either").reason
    assert reason is not None
    assert reason.sentence == "can't run: ed_part has failed"


async def test_a_stage_of_which_its_processes_died_can_be_tolerated_like_any_other(producer: FlowProducer) -> None:
    store = producer._open.store
    flow = await producer.add(ed_near(1))
    tag = store.keys.tag_of(flow.id)
    for _ in range(3):
        actor = await Actor(store, routes=("ed_part", "ed_part!")).begin()
        (claim,) = await actor.exchange_claims(tag, 1)
        assert claim.index == 0
        await store.rescue(tag, actor.id, "killed by SIGKILL", is_crash=True, is_alone=True)
    async with working(producer, *EVERY):
        assert await flow.result(PATIENCE) == "poisoned after 1"
    assert ran["ed_part"] == 0, "nobody runs it a fourth time"


async def test_a_flow_that_has_not_ended_is_not_retried(producer: FlowProducer) -> None:
    broken.add("ed_part")
    async with working(producer, *EVERY):
        flow = await producer.add(ed_both(1))
        await gate.until_arrived()
        await until(flow, lambda now: now.stage("ed_part").state == "failed")
        broken.clear()
        assert await flow.retry() == 0
        gate.opened.set()
        await outcome(flow)
        assert await flow.retry() == 1
        assert await flow.result(PATIENCE) == 2
