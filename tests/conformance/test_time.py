"""Flows and stages that wait for a time, and those that run out of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowq import FlowProducer, Node, Unrecoverable, context, pipeline, stage
from flowq.errors import FlowCancelled, FlowConflict, FlowDeadlinePassed, FlowFailed, InvalidValue
from flowq.model.event import Event
from tests.conformance.in_the_store import its_time_comes
from tests.conformance.scene import gate, ran
from tests.engine.work import PATIENCE, told, until, working

pytestmark = pytest.mark.anyio

deadlines: list[datetime | None] = []


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing has run."""
    deadlines.clear()


@stage
async def ct_first(number: int) -> int:
    ran[context().stage] += 1
    deadlines.append(context().deadline)
    return number


@stage
async def ct_other(number: int) -> int:
    ran[context().stage] += 1
    return number


@stage
async def ct_sum(parts: list[int]) -> int:
    ran[context().stage] += 1
    return sum(parts)


@stage
async def ct_held(number: int) -> int:
    ran[context().stage] += 1
    await gate.stop_async()
    return number


@stage(stall="200ms", attempts=2)
async def ct_stalls_once(number: int) -> int:
    if context().attempt == 1:
        context().progress(0.5, "half")
        await asyncio.Event().wait()
    return number


was_told = threading.Event()


@stage(stall="200ms")
def ct_stalls_in_a_thread(number: int) -> int:
    while not context().cancelled:
        threading.Event().wait(0.01)
    was_told.set()
    return number


@stage(stall="400ms")
async def ct_progresses(number: int) -> int:
    for step in range(10):
        context().progress(step / 10)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.06):
                await asyncio.Event().wait()
    return number


@pipeline
def ct_two(number: int) -> int:
    return ct_other(ct_first(number))


@pipeline
def ct_wide(width: int) -> int:
    return ct_sum([(ct_first if number % 2 else ct_other)(number) for number in range(width)])


@pipeline
def ct_later(number: int) -> int:
    return ct_other.with_options(delay="1h")(ct_first(number))


@pipeline
def ct_later_roots(number: int) -> int:
    parts = [ct_first(number), ct_first.with_options(name="late", delay="1h")(number), ct_other(number)]
    return ct_sum(parts)


@pipeline
def ct_slow(number: int) -> int:
    return ct_other(ct_held(number))


EVERY = (ct_first, ct_other, ct_sum, ct_held, ct_stalls_once, ct_stalls_in_a_thread, ct_progresses)


# ── a flow that begins later ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_delayed_flow_waits_and_says_so_then_it_runs(producer: FlowProducer) -> None:
    flow = await producer.add(ct_two(7), delay="5m")
    snapshot = await flow.inspect()
    assert snapshot.state == "scheduled"
    assert snapshot.begins_at == snapshot.created_at + 300_000
    first, other = snapshot.graph
    assert (first.state, first.ready_at, other.state) == ("scheduled", snapshot.begins_at, "blocked")
    assert first.reason is not None
    assert (first.reason.code, first.reason.sentence[:10]) == ("scheduled", "begins in ")
    async with working(producer, *EVERY):
        assert await (await producer.add(ct_two(1))).result(PATIENCE) == 1
        assert ran["ct_first"] == 1, "the delayed one must not have run"
        assert await its_time_comes(producer, flow) == 1
        assert await flow.result(PATIENCE) == 7
    assert (await told(flow))[:3] == ["added", "promoted", "claimed ct_first"]


async def test_a_delayed_flow_begins_when_its_time_has_come_and_has_not_waited_in_a_queue_until_then(
    producer: FlowProducer,
) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(ct_two(7), delay="300ms")
        assert await flow.result(PATIENCE) == 7
    snapshot = await flow.inspect()
    assert snapshot.begins_at is not None
    assert snapshot.started_at is not None
    assert snapshot.started_at >= snapshot.begins_at
    first = snapshot.stage("ct_first")
    assert first.ready_at == snapshot.begins_at
    assert first.wait_seconds == (snapshot.started_at - snapshot.begins_at) / 1000


async def test_a_flow_may_begin_at_a_moment_or_at_once_if_that_is_over(producer: FlowProducer) -> None:
    moment = datetime.now(UTC) + timedelta(days=2)
    later = await producer.add(ct_two(7), start_at=moment)
    snapshot = await later.inspect()
    assert (snapshot.state, snapshot.begins_at) == ("scheduled", round(moment.timestamp() * 1000))
    over = await producer.add(ct_two(8), start_at=datetime(2020, 1, 1, tzinfo=UTC))
    assert (await over.inspect()).state == "ready"
    async with working(producer, *EVERY):
        assert await over.result(PATIENCE) == 8


async def test_a_delay_goes_with_options_and_in_bulk(producer: FlowProducer) -> None:
    specs = [ct_two(number).with_options(id=f"d{number}", delay="1h") for number in range(20)]
    flows = await producer.add_bulk(specs)
    assert {summary.state for summary in await producer.list(state="scheduled")} == {"scheduled"}
    assert len(await producer.list(state="scheduled")) == 20
    async with working(producer, *EVERY):
        for flow in flows:
            await its_time_comes(producer, flow)
        assert [await flow.result(PATIENCE) for flow in flows] == list(range(20))


async def test_a_delayed_flow_of_the_same_id_is_the_same_flow(producer: FlowProducer) -> None:
    one = await producer.add(ct_two(1), id="same", delay="1h")
    other = await producer.add(ct_two(1), id="same")
    assert (one.is_new, other.is_new) == (True, False)
    assert (await other.inspect()).state == "scheduled"
    with pytest.raises(FlowConflict):
        await producer.add(ct_two(2), id="same", delay="1h")


async def test_a_delayed_flow_of_many_first_stages_is_kept_in_parts_and_begins_whole(producer: FlowProducer) -> None:
    flow = await producer.add(ct_wide(450), delay="1h")
    async with working(producer, *EVERY):
        assert await its_time_comes(producer, flow) == 5
        assert await flow.result(PATIENCE) == sum(range(450))
    assert ran.total() == 451


async def test_a_scheduled_flow_that_is_cancelled_never_begins(producer: FlowProducer) -> None:
    flow = await producer.add(ct_wide(250), delay="1h")
    assert await flow.cancel("not needed")
    assert await its_time_comes(producer, flow) == 0
    with pytest.raises(FlowCancelled):
        await flow.result(PATIENCE)
    assert not await flow.cancel() or (await flow.inspect()).cancel_reason == "not needed"


async def test_a_scheduled_flow_that_was_cancelled_runs_at_once_when_it_is_retried(producer: FlowProducer) -> None:
    flow = await producer.add(ct_two(7), delay="1h")
    assert await flow.retry() == 0, "what has not ended is not retried"
    await flow.cancel()
    assert await flow.retry() == 2
    async with working(producer, *EVERY):
        assert await flow.result(PATIENCE) == 7
    assert ran == {"ct_first": 1, "ct_other": 1}


@pytest.mark.parametrize(
    "given",
    [
        {"delay": "soon"},
        {"delay": -1},
        {"start_at": datetime(2030, 1, 1)},
        {"start_at": "2030-01-01"},
        {"delay": "1h", "start_at": datetime(2030, 1, 1, tzinfo=UTC)},
        {"deadline": 0},
        {"deadline": "1h", "delay": "2h"},
    ],
)
async def test_a_time_that_makes_no_sense_is_refused_before_anything_is_written(producer: FlowProducer, given: Any) -> None:
    with pytest.raises(InvalidValue):
        await producer.add(ct_two(1), id="refused", **given)
    with pytest.raises(InvalidValue):
        ct_two(1).with_options(**given)
    assert await producer.list() == []


# ── a stage that begins later ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_stage_may_wait_after_its_release(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(ct_later(7))
        snapshot = await until(flow, lambda snapshot: snapshot.stage("ct_other").state == "scheduled")
        reason = snapshot.stage("ct_other").reason
        assert reason is not None
        assert (reason.code, reason.sentence[:10]) == ("scheduled", "begins in ")
        assert await its_time_comes(producer, flow) == 1
        assert await flow.result(PATIENCE) == 7
    events = [event async for event in flow.events() if isinstance(event, Event) and event.stage == "ct_other"]
    assert [event.verb for event in events if event.seq] == ["delayed", "promoted", "claimed", "completed"]
    assert events[0].due_at == events[0].at + 3_600_000


async def test_a_first_stage_may_wait_while_the_others_run(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(ct_later_roots(2))
        snapshot = await until(flow, lambda snapshot: snapshot.done == 2)
        assert [stage.state for stage in snapshot.graph] == ["completed", "scheduled", "completed", "blocked"]
        assert await its_time_comes(producer, flow) == 1
        assert await flow.result(PATIENCE) == 6


async def test_both_delays_add_up(producer: FlowProducer) -> None:
    flow = await producer.add(ct_later_roots(2), delay="1h")
    snapshot = await flow.inspect()
    assert [stage.ready_at and stage.ready_at - snapshot.created_at for stage in snapshot.graph[:3]] == [
        3_600_000,
        7_200_000,
        3_600_000,
    ]
    async with working(producer, *EVERY):
        assert await its_time_comes(producer, flow) == 2
        assert await flow.result(PATIENCE) == 6


async def test_a_node_may_wait(producer: FlowProducer) -> None:
    flow = await producer.add(Node("ct_first", data={"number": 3}, delay="1h"))
    assert (await flow.inspect()).graph[0].state == "scheduled"
    async with working(producer, *EVERY):
        await its_time_comes(producer, flow)
        assert await flow.result(PATIENCE) == 3


# ── deadlines ────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_flow_fails_at_its_deadline_and_what_runs_of_it_is_cancelled(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(ct_slow(1), deadline="300ms")
        await gate.until_arrived()
        with pytest.raises(FlowDeadlinePassed) as failed:
            await flow.result(PATIENCE)
    assert isinstance(failed.value, FlowFailed)
    snapshot = await flow.inspect()
    assert (snapshot.state, snapshot.fail_reason, snapshot.root_cause) == ("failed", "its deadline passed", None)
    assert [stage.state for stage in snapshot.graph] == ["cancelled", "cancelled"]
    assert snapshot.ended_at is not None
    assert snapshot.deadline_at == snapshot.created_at + 300
    assert await told(flow) == ["added", "claimed ct_held", "cancelled ct_held", "cancelled ct_other", "failed"]


async def test_a_flow_that_nobody_works_on_fails_at_its_deadline_too(producer: FlowProducer) -> None:
    flow = await producer.add(ct_slow(1), deadline=datetime.now(UTC) + timedelta(milliseconds=200))
    async with working(producer, ct_first):
        with pytest.raises(FlowDeadlinePassed):
            await flow.result(PATIENCE)


async def test_a_flow_of_many_stages_fails_at_its_deadline(producer: FlowProducer) -> None:
    flow = await producer.add(ct_wide(1_200), delay="1h", deadline=datetime.now(UTC) + timedelta(hours=2))
    assert (await flow.inspect()).deadline_at
    other = await producer.add(ct_wide(1_200), deadline="1ms")
    async with working(producer, ct_held):
        with pytest.raises(FlowDeadlinePassed):
            await other.result(PATIENCE)
    assert (await flow.inspect()).state == "scheduled"


async def test_a_stage_sees_the_earlier_of_timeout_and_deadline(producer: FlowProducer) -> None:
    long, short = ct_first.with_options(timeout="3h"), ct_first.with_options(timeout="1m")
    begun = datetime.now(UTC)
    async with working(producer, *EVERY):
        for one in (ct_first, long, short):
            assert await (await producer.add(one.flow(1), deadline="2h")).result(PATIENCE) == 1
    minutes = [round((deadline - begun).total_seconds() / 60) for deadline in deadlines if deadline]
    assert minutes == [120, 120, 1]


async def test_a_flow_that_ends_in_time_leaves_nothing_behind_of_its_deadline(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(ct_two(1), deadline="1h")
        assert await flow.result(PATIENCE) == 1
    assert await its_time_comes(producer, flow) == 0


async def test_a_flow_that_ran_out_of_time_may_be_retried_and_has_no_deadline_then(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(ct_slow(1), deadline="200ms")
        with pytest.raises(FlowDeadlinePassed):
            await flow.result(PATIENCE)
        gate.opened.set()
        assert await flow.retry() == 2
        assert await flow.result(PATIENCE) == 1
    snapshot = await flow.inspect()
    assert (snapshot.deadline_at, snapshot.fail_reason, snapshot.run) == (None, "", 2)


async def test_the_failure_of_a_stage_is_named_before_the_deadline(producer: FlowProducer) -> None:
    @stage
    async def ct_broken(number: int) -> int:
        raise Unrecoverable("broken")

    @pipeline
    def ct_broken_and_slow(number: int) -> int:
        return ct_sum([ct_broken(number), ct_held(number)])

    async with working(producer, ct_broken, *EVERY):
        flow = await producer.add(ct_broken_and_slow(1), deadline="1s")
        with pytest.raises(FlowFailed, match="broken") as failed:
            await flow.result(PATIENCE)
    assert failed.value.stage == "ct_broken"
    assert (await flow.inspect()).fail_reason == "its deadline passed"


# ── stalls ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_an_attempt_that_tells_no_progress_for_too_long_fails_and_is_retried(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(ct_stalls_once.flow(5))
        assert await flow.result(PATIENCE) == 5
    (first,) = (await flow.inspect()).graph[0].history
    assert (first.outcome, first.cause) == ("retried", first.cause)
    assert first.cause.startswith("StageStalled: stage ct_stalls_once told no progress for 0.2 s")


async def test_a_stalled_function_in_a_thread_is_told(producer: FlowProducer) -> None:
    was_told.clear()
    async with working(producer, *EVERY):
        flow = await producer.add(ct_stalls_in_a_thread.flow(5))
        with pytest.raises(FlowFailed, match="told no progress") as failed:
            await flow.result(PATIENCE)
    assert failed.value.error_type == "StageStalled"
    failure = (await flow.inspect()).graph[0].failure
    assert failure is not None
    assert failure.kind == "stalled"
    assert await asyncio.to_thread(was_told.wait, PATIENCE), "the thread sees it at its own next look"


async def test_a_stage_that_tells_progress_may_take_longer_than_its_stall_timeout(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(ct_progresses.flow(5))).result(PATIENCE) == 5


async def test_a_stall_timeout_that_makes_no_sense_is_refused() -> None:
    for wrong in (0, "soon", -1):
        with pytest.raises(InvalidValue, match="stall"):
            ct_first.with_options(stall=wrong)
