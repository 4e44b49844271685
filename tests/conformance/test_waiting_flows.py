"""Flows that wait for their time, are paused or ran out of it: found, steered and kept like all others."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, Unrecoverable, pipeline, stage
from flowq.errors import FlowDeadlinePassed
from flowq.pipeline import Dedup
from tests.conformance.after_the_end import pruner_of
from tests.conformance.scene import broken
from tests.engine.work import PATIENCE, outcome, working

pytestmark = pytest.mark.anyio


@stage
async def wf_first(text: str) -> str:
    if text in broken:
        raise Unrecoverable("HTTP 403")
    return text


@stage
async def wf_second(text: str) -> str:
    return text


@pipeline
def wf_one(text: str) -> str:
    return wf_first(text)


@pipeline(fail_fast=True, finish_first=True, keep={"failed": "0s"})
def wf_two(text: str) -> str:
    return wf_second(wf_first(text))


EVERY = (wf_first, wf_second)


async def test_they_are_found_by_state_and_by_what_they_have_in_common(producer: FlowProducer) -> None:
    await producer.add(wf_one("a"), id="later", tags=["eu"], delay="1h")
    paused = await producer.add(wf_one("b"), id="paused", tags=["eu"])
    await producer.add(wf_one("c"), id="ready", tenant="acme")
    await paused.pause()
    for state, found in (("scheduled", "later"), ("paused", "paused"), ("ready", "ready")):
        assert [flow.id for flow in await producer.list(state=state)] == [found]
    assert {flow.id for flow in await producer.list(tag="eu")} == {"later", "paused"}


async def test_they_are_cancelled_with_others(producer: FlowProducer) -> None:
    await producer.add(wf_one("a"), id="later", delay="1h", deadline="2h")
    await (await producer.add(wf_one("b"), id="paused")).pause()
    report = await producer.cancel(pipeline="wf_one")
    assert (report.matched, report.done, report.stages) == (2, 2, 2)
    assert {flow.id for flow in await producer.list(state="cancelled")} == {"later", "paused"}


async def test_flows_out_of_time_are_one_group_of_dead_letters_and_can_be_retried(producer: FlowProducer) -> None:
    broken.add("bad")
    for name in ("late-1", "late-2"):
        await producer.add(wf_one(name), id=name, deadline="20ms")
    async with working(producer, wf_second):
        for name in ("late-1", "late-2"):
            await outcome(producer.flow(name))
    async with working(producer, *EVERY):
        await outcome(await producer.add(wf_one("bad")))
        late, bad = await producer.dead()
        assert (late.count, late.pipeline, late.stage, late.cause) == (2, "wf_one", "", "its deadline passed")
        assert (bad.count, bad.stage, bad.cause) == (1, "wf_first", "Unrecoverable: HTTP <n>")
        assert {flow.id for flow in await producer.list(cause="its deadline*")} == {"late-1", "late-2"}
        assert (await producer.retry(dead=late.key)).done == 2
        assert await producer.flow("late-1").result(PATIENCE) == "late-1"


async def test_what_fails_at_once_is_told_by_its_stage_and_not_by_its_deadline(producer: FlowProducer) -> None:
    broken.add("bad")
    async with working(producer, *EVERY):
        flow = await producer.add(wf_two("bad"), deadline="1h")
        await outcome(flow)
    snapshot = await flow.inspect()
    assert (snapshot.root_cause, snapshot.fail_reason) == ("wf_first", "")
    assert snapshot.cause == "Unrecoverable: HTTP 403"


async def test_one_that_waits_stands_in_the_way_of_others_under_its_key(producer: FlowProducer) -> None:
    first = await producer.add(wf_one("a"), dedup=Dedup("user:7"), delay="1h", deadline="2h")
    second = await producer.add(wf_one("b").with_options(dedup=Dedup("user:7")))
    assert (first.is_new, second.is_new, second.id) == (True, False, first.id)
    await first.cancel()
    third = await producer.add(wf_one("c"), dedup=Dedup("user:7"), start_at=None)
    assert third.is_new
    async with working(producer, *EVERY):
        assert await third.result(PATIENCE) == "c"


async def test_what_its_pipeline_says_of_keeping_holds_for_one_out_of_time(producer: FlowProducer) -> None:
    late = [
        await producer.add(wf_two("a"), id="own", deadline="20ms", tags=["eu"]),
        await producer.add(wf_one("b"), id="usual", deadline="20ms"),
    ]
    async with working(producer, wf_second):  # which nothing of them has come to
        assert {type(await outcome(flow)) for flow in late} == {FlowDeadlinePassed}
    await pruner_of(producer).run_once()
    assert [flow.id for flow in await producer.list()] == ["usual"]
    assert await producer.list(tag="eu") == []
