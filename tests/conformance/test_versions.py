"""Versions of stages: who runs which, and what a release would strand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flowq import FlowProducer, Node, Unrecoverable, context, pipeline, stage
from flowq.errors import InvalidValue
from flowq.hooks import FlowEnd
from flowq.pipeline import Stage
from flowq.pipeline.options import StageOptions
from tests.engine.work import outcome, until, working

pytestmark = pytest.mark.anyio


def made(fn: Callable[..., Any], **options: Any) -> Stage[..., Any]:
    """A stage as another release has it: beside the one of this process, so it stands in no registry."""
    return Stage(fn, "ve_encode", StageOptions().changed(**options))


async def first(source: str) -> str:
    return f"{source} by 1"


async def second(source: str, height: int) -> str:
    return f"{source} by 2 at {height}"


async def unversioned(source: str) -> str:
    return f"{source} by nobody in particular"


@stage
async def ve_publish(video: str) -> str:
    if video.startswith("bad"):
        raise Unrecoverable("bad")
    return f"published {video}"


ONE, TWO, NONE = made(first, version="1"), made(second, version="2"), made(unversioned)


@pipeline
def ve_old(source: str) -> str:
    return ve_publish(ONE(source))


@pipeline
def ve_new(source: str) -> str:
    return ve_publish(TWO(source, height=480))


async def test_a_worker_runs_only_the_version_that_it_has(producer: FlowProducer) -> None:
    async with working(producer, ONE, ve_publish):
        old, new = await producer.add(ve_old("a")), await producer.add(ve_new("b"))
        assert await old.result(30) == "published a by 1"
        waiting = (await until(new, lambda snapshot: snapshot.stage("ve_encode").reason is not None)).stage("ve_encode")
        assert waiting.reason is not None
        assert (waiting.state, waiting.version, waiting.reason.code) == ("ready", "2", "no_worker")
        assert waiting.reason.sentence == "no worker has version 2 of ve_encode; there is version 1"
    async with working(producer, TWO, ve_publish):
        assert await new.result(30) == "published b by 2 at 480"


async def test_flows_in_flight_keep_the_version_that_they_were_submitted_with(producer: FlowProducer) -> None:
    flow = await producer.add(ve_old("a"))
    async with working(producer, TWO, ve_publish):
        newer = await producer.add(ve_new("b"))
        assert await newer.result(30) == "published b by 2 at 480"
        assert (await flow.inspect()).stage("ve_encode").state == "ready"
    async with working(producer, ONE, ve_publish):
        assert await flow.result(30) == "published a by 1"


async def test_a_stage_without_a_version_is_one_of_its_own(producer: FlowProducer) -> None:
    async with working(producer, NONE, ve_publish):
        plain = await producer.add(NONE.flow("c"))
        assert await plain.result(30) == "c by nobody in particular"
        flow = await producer.add(ve_old("a"))
        reason = (await flow.inspect()).stage("ve_encode").reason
        assert reason is not None
        assert reason.sentence == "no worker has version 1 of ve_encode; there is one without a version"


async def test_a_node_may_name_a_version(producer: FlowProducer) -> None:
    async with working(producer, ONE):
        for flow in (
            Node("ve_encode", version="1", data={"source": "a"}),
            {"name": "ve_encode", "data": {"source": "a"}, "options": {"version": "1"}},
        ):
            assert await (await producer.add(flow)).result(30) == "a by 1"


async def test_a_release_that_has_all_that_is_in_flight_strands_nothing(producer: FlowProducer) -> None:
    await producer.add(ve_old("a"))
    await producer.add(ve_old("b"))
    report = await producer.check(stages=[ONE, ve_publish])
    assert (report.flows, report.stages, report.strandings) == (2, 4, [])


async def test_what_a_release_would_strand_is_told_by_stage_and_cause(producer: FlowProducer) -> None:
    await producer.add(ve_old("a"), id="old")
    await producer.add(ve_new("b"), id="new")
    by_stage = {one.stage: one for one in (await producer.check(stages=[TWO])).strandings}
    assert by_stage["ve_encode@1"].code == "version"
    assert by_stage["ve_encode@1"].sentence == "it needs version 1, the release has version 2"
    assert by_stage["ve_encode@1"].examples == ["old"]
    assert (by_stage["ve_publish"].code, by_stage["ve_publish"].sentence) == ("stage", "the release has no stage ve_publish")


async def test_another_queue_and_other_parameters_strand_flows_too(producer: FlowProducer) -> None:
    await producer.add(ve_old("a"), id="old")
    moved = made(first, version="1", queue="gpu")
    (one,) = (await producer.check(stages=[moved, ve_publish])).strandings
    assert (one.code, one.sentence) == ("queue", "it waits on queue default, the release serves it on gpu")
    assert (await producer.check(stages=[moved, ve_publish], queues=["default", "gpu"])).strandings == []
    (one,) = (await producer.check(stages=[made(second, version="1"), ve_publish])).strandings
    assert (one.code, one.sentence) == ("parameters", "its flow has no argument height")

    async def other(*, text: str) -> str:
        return text

    (one,) = (await producer.check(stages=[made(other, version="1"), ve_publish])).strandings
    assert one.sentence == "its flow has no argument text; the release takes no argument source"


async def test_what_has_ended_is_not_stranded(producer: FlowProducer) -> None:
    async with working(producer, ONE, ve_publish):
        await outcome(await producer.add(ve_old("a")))
        await outcome(await producer.add(ve_old("bad")))
    assert (await producer.check(stages=[ve_publish])).strandings == []
    async with working(producer, ONE):
        flow = await producer.add(ve_old("c"))
        await until(flow, lambda snapshot: snapshot.stage("ve_encode").state == "completed")
    assert (await producer.check(stages=[ve_publish])).strandings == []


@stage
async def ve_parent(source: str) -> str:
    return await context().spawn(ONE, source)


@stage
async def ve_grandparent(source: str) -> str:
    return await context().spawn(ve_parent, source)


async def ve_after(end: FlowEnd) -> None:
    await context().spawn(ve_parent, end.flow_id)


AFTER = stage(name="ve_after")(ve_after)


@pipeline(finally_=AFTER)
def ve_with_end(source: str) -> str:
    return ve_publish(source)


async def test_what_stages_have_spawned_would_strand_too_at_any_depth(producer: FlowProducer) -> None:
    async with working(producer, ve_parent, ve_grandparent):
        flow = await producer.add(ve_grandparent.flow("a"), id="top")
        below = await until(flow, lambda seen: any(child.state == "suspended" for child in seen.spawned))
    report = await producer.check(stages=[TWO, ve_parent, ve_grandparent])
    assert (report.flows, report.stages) == (3, 3)
    (one,) = report.strandings
    assert (one.stage, one.code, one.flows) == ("ve_encode@1", "version", 1)
    assert one.examples[0].startswith(f"{below.spawned[0].id}^ve_parent.")
    assert (await producer.check(stages=[ONE, ve_parent, ve_grandparent])).strandings == []


async def test_what_hooks_have_spawned_is_counted_once(producer: FlowProducer) -> None:
    async with working(producer, AFTER, ve_parent, ve_publish):
        flow = await producer.add(ve_with_end("a"), id="ended")
        assert await flow.result(30) == "published a"
        await until(flow, lambda seen: seen.hooks is not None and seen.hooks.state is not None)
        hooks = await until(producer.flow("ended^end"), lambda seen: any(child.state == "suspended" for child in seen.spawned))
    (one,) = (await producer.check(stages=[AFTER, ve_parent])).strandings
    assert (one.stage, one.flows, len(one.examples)) == ("ve_encode@1", 1, 1)
    assert one.examples[0].startswith(f"{hooks.spawned[0].id}^")


@pytest.mark.parametrize("wrong", ["", "a b", "1!", "v@2", 2, "x" * 33])
def test_a_version_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match="version"):
        stage(version=wrong)
