"""Stages that wait for somebody to say something."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from flowq import FlowProducer, context, pipeline, signal, stage
from flowq.errors import (
    DefinitionError,
    FlowFailed,
    FlowHasEnded,
    FlowNotFound,
    InvalidValue,
    ResultDoesNotFit,
    SignalConflict,
    ValueNotStorable,
    ValueTooLarge,
)
from tests.conformance.scene import gate, ran
from tests.engine.work import told, until, working

pytestmark = pytest.mark.anyio


class Approval(msgspec.Struct):
    by: str
    is_granted: bool = True


@stage
async def cg_asks(timeout: float | None = None) -> str:
    ran["cg_asks"] += 1
    approval = await context().wait_for_signal("approved", Approval, timeout)
    return f"{approval.by} on attempt {context().attempt}"


@stage
async def cg_falls_back() -> str:
    ran["cg_falls_back"] += 1
    first = await context().wait_for_signal("approved", Approval, "200ms", default=None)
    second = await context().wait_for_signal("published", str)
    return f"{first and first.by} {second}"


@stage
async def cg_asks_late() -> str:
    await gate.stop_async()
    return (await context().wait_for_signal("approved", Approval)).by


@stage
async def cg_asks_two() -> list[Any]:
    ran["cg_asks_two"] += 1
    return list(await asyncio.gather(context().wait_for_signal("one", int), context().wait_for_signal("two", int)))


EVERY = (cg_asks, cg_falls_back, cg_asks_late, cg_asks_two)


async def test_a_stage_goes_on_with_the_value_that_was_sent(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=1):
        flow = await producer.add(cg_asks.flow())
        waiting = await until(flow, lambda snapshot: snapshot.state == "suspended")
        assert await flow.signal("approved", {"by": "ada"}) is True
        assert await flow.result(30) == "ada on attempt 1"
    reason = waiting.stage("cg_asks").reason
    assert reason is not None
    assert (reason.code, reason.sentence, reason.on) == ("signal", "waits for signal approved", ("approved",))
    assert [summary.state for summary in await producer.list()] == ["completed"]
    assert await told(flow) == [
        "added", "claimed cg_asks", "suspended cg_asks", "signalled", "resumed cg_asks", "claimed cg_asks", "completed cg_asks",
        "completed",
    ]  # fmt: skip
    assert ran["cg_asks"] == 2


async def test_a_signal_may_come_before_anyone_waits(producer: FlowProducer) -> None:
    flow = await producer.add(cg_asks.flow())
    await flow.signal("approved", Approval("ada"))
    async with working(producer, *EVERY):
        assert await flow.result(30) == "ada on attempt 1"
    assert ran["cg_asks"] == 1


async def test_a_signal_that_comes_while_the_stage_runs_is_not_lost(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_asks_late.flow())
        await gate.until_arrived()
        await flow.signal("approved", Approval("ada"))
        gate.opened.set()
        assert await flow.result(30) == "ada"


async def test_the_first_value_counts_and_may_be_sent_again(producer: FlowProducer) -> None:
    flow = await producer.add(cg_asks.flow())
    assert await flow.signal("approved", {"by": "ada"}) is True
    assert await flow.signal("approved", {"by": "ada"}) is False
    with pytest.raises(SignalConflict, match="with another value"):
        await flow.signal("approved", {"by": "eve"})
    async with working(producer, *EVERY):
        assert await flow.result(30) == "ada on attempt 1"


async def test_without_a_default_a_wait_that_ends_in_vain_fails_the_stage(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_asks.with_options(attempts=3).flow(0.2))
        with pytest.raises(FlowFailed, match="did not come in time") as failed:
            await flow.result(30)
        assert failed.value.error_type == "SignalTimedOut"
        # It waits anew when it is retried by hand.
        await flow.retry()
        await until(flow, lambda snapshot: snapshot.state == "suspended")
        await flow.signal("approved", Approval("ada"))
        assert await flow.result(30) == "ada on attempt 1"


async def test_a_default_that_was_taken_stays_whatever_comes_later(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_falls_back.flow())
        await until(flow, lambda snapshot: (reason := snapshot.graph[0].reason) is not None and reason.on == ("published",))
        await flow.signal("approved", Approval("ada"))
        await flow.signal("published", "now")
        assert await flow.result(30) == "None now"
    assert ran["cg_falls_back"] >= 3


async def test_until_when_it_waits_is_told(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_asks.flow(3_600))
        waiting = await until(flow, lambda snapshot: snapshot.state == "suspended")
    reason = waiting.graph[0].reason
    assert reason is not None
    assert reason.sentence.startswith("waits for signal approved until 2")
    assert reason.sentence.endswith(" UTC")


async def test_a_value_that_does_not_fit_is_refused_and_another_may_be_sent(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_asks.flow())
        await flow.signal("approved", {"who": "ada"})
        waiting = await until(
            flow, lambda snapshot: (reason := snapshot.graph[0].reason) is not None and "refused" in reason.sentence
        )
        await flow.signal("approved", {"by": "ada"})
        assert await flow.result(30) == "ada on attempt 1"
    assert waiting.graph[0].reason is not None
    assert "missing required field `by`" in waiting.graph[0].reason.sentence


async def test_waits_that_stand_side_by_side_are_known_together(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_asks_two.flow())
        waiting = await until(flow, lambda snapshot: snapshot.state == "suspended")
        assert waiting.graph[0].reason is not None
        assert waiting.graph[0].reason.on == ("one", "two")
        await flow.signal("two", 2)
        await flow.signal("one", 1)
        assert await flow.result(30) == [1, 2]


async def test_a_signal_needs_a_flow_that_can_wait_for_it(producer: FlowProducer) -> None:
    with pytest.raises(FlowNotFound):
        await producer.flow("nobody").signal("approved", 1)
    flow = await producer.add(cg_asks.flow())
    await flow.cancel()
    with pytest.raises(FlowHasEnded, match="is cancelled"):
        await flow.signal("approved", 1)


async def test_what_can_not_be_a_signal_is_refused_before_anything_is_written(producer: FlowProducer) -> None:
    flow = await producer.add(cg_asks.flow())
    with pytest.raises(InvalidValue, match="signal is 'two words'"):
        await flow.signal("two words", 1)
    with pytest.raises(ValueNotStorable, match="value"):
        await flow.signal("approved", object())
    with pytest.raises(ValueTooLarge, match="65,536"):
        await flow.signal("approved", "x" * 70_000)
    assert (await flow.inspect()).seq == 1


async def test_a_cancelled_flow_waits_no_more(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cg_asks.flow(3_600))
        await until(flow, lambda snapshot: snapshot.state == "suspended")
        await flow.cancel("nobody asked")
        snapshot = await flow.inspect()
    assert (snapshot.state, snapshot.graph[0].state) == ("cancelled", "cancelled")


@stage
async def cg_prepare() -> str:
    return "video"


@stage
async def cg_publish(video: str, approval: Approval | None) -> str:
    return f"{video} by {approval.by if approval else 'nobody'}"


@pipeline
def cg_approved(timeout: str | None) -> str:
    video = cg_prepare()
    if timeout is None:
        return cg_publish(video, signal("approved", type=Approval, after=[video]))
    return cg_publish(video, signal("approved", Approval, timeout=timeout, default=None, after=[video]))


async def test_an_approval_is_a_stage_of_the_graph_that_every_worker_serves(producer: FlowProducer) -> None:
    async with working(producer, cg_prepare, cg_publish, concurrency=1):
        flow = await producer.add(cg_approved(None))
        waiting = await until(flow, lambda snapshot: snapshot.state == "suspended")
        assert (waiting.stage("approved").state, waiting.stage("cg_publish").state) == ("suspended", "blocked")
        await flow.signal("approved", {"by": 5})
        await until(flow, lambda snapshot: "by: expected string" in str(snapshot.stage("approved").reason))
        await flow.signal("approved", {"by": "ada"})
        assert await flow.result(30) == "video by ada"


async def test_an_approval_that_nobody_gives_has_its_default(producer: FlowProducer) -> None:
    async with working(producer, cg_prepare, cg_publish):
        assert await (await producer.add(cg_approved("150ms"))).result(30) == "video by nobody"


async def test_only_workers_with_other_queues_serve_approvals_too(producer: FlowProducer) -> None:
    async with working(producer, cg_prepare, cg_publish, queues={"default": 1}):
        flow = await producer.add(cg_approved(None))
        await until(flow, lambda snapshot: snapshot.state == "suspended")
        await flow.signal("approved", {"by": "ada"})
        assert await flow.result(30) == "video by ada"


def test_a_signal_that_makes_no_sense_is_refused_where_it_is_written() -> None:
    with pytest.raises(DefinitionError, match="outside a pipeline's body"):
        signal("approved", Approval)

    @pipeline
    def cg_wrong_name() -> Any:
        return signal("two words")

    @pipeline
    def cg_default_for_ever() -> Any:
        return signal("approved", default=None)

    @pipeline
    def cg_wrong_type() -> str:
        return cg_publish(signal("approved", int), None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    for wrong, error, said in (
        (cg_wrong_name, InvalidValue, "two words"),
        (cg_default_for_ever, InvalidValue, "only with a timeout"),
        (cg_wrong_type, ResultDoesNotFit, "is declared as str"),
    ):
        with pytest.raises(error, match=said):
            wrong()
