"""What the failure of a stage means to the others, and what runs again when it is retried."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from flowq import FlowHandle, FlowProducer, FlowSpec, StageFailure, Unrecoverable, context, pipeline, stage, succeeded, tolerate
from flowq.errors import FlowFailed, InvalidValue, ResultDoesNotFit, StageNotFound
from flowq.model.event import Event
from flowq.model.snapshot import Reused
from tests.conformance.scene import broken, gate, ran
from tests.engine.work import told, until, working

pytestmark = pytest.mark.anyio


@stage
async def cf_part(number: int, factor: int = 1) -> int:
    ran[context().stage] += 1
    if context().stage in broken:
        raise Unrecoverable(f"{context().stage} is broken")
    return number * factor


@stage
async def cf_held(number: int) -> int:
    ran[context().stage] += 1
    await gate.stop_async()
    return number


@stage
async def cf_sum(parts: list[int]) -> int:
    ran[context().stage] += 1
    return sum(parts)


@stage
async def cf_either(part: int | StageFailure, other: int = 0) -> str:
    ran[context().stage] += 1
    return f"{part.stage}: {part.error_type}: {part.message}" if isinstance(part, StageFailure) else f"{part} and {other}"


@stage
async def cf_each(parts: list[int | StageFailure]) -> list[str]:
    ran[context().stage] += 1
    return [part.stage if isinstance(part, StageFailure) else str(part) for part in parts]


@stage
async def cf_last() -> str:
    ran[context().stage] += 1
    return "done"


@pipeline
def cf_tolerant(number: int) -> str:
    return cf_either(tolerate(cf_part(number)))


@pipeline
def cf_list(numbers: list[int]) -> int:
    return cf_sum(succeeded([cf_part(number) for number in numbers]))


@pipeline
def cf_mixed(numbers: list[int]) -> list[str]:
    return cf_each([tolerate(cf_part(number)) for number in numbers])


@pipeline
def cf_strict(number: int) -> int:
    return cf_sum([cf_part(number), cf_part(number + 1)])


@pipeline
def cf_both(number: int) -> tuple[str, int]:
    part = cf_part(number)
    return cf_either(tolerate(part)), cf_sum([part])


@pipeline
def cf_ordered(number: int) -> str:
    return cf_last.with_options(after=[tolerate(cf_part(number))])()


@pipeline
def cf_given(number: int) -> int | StageFailure:
    return tolerate(cf_part(number))


@pipeline
def cf_slow(number: int) -> int:
    return cf_sum([cf_part(number), cf_held(number)])


@pipeline(fail_fast=True)
def cf_fast(number: int) -> int:
    return cf_sum([cf_part(number), cf_held(number)])


@pipeline(fail_fast=True)
def cf_fast_but_tolerant(number: int) -> str:
    return cf_either(tolerate(cf_part(number)))


@pipeline
def cf_scaled(number: int, factor: int) -> int:
    return cf_sum([cf_part(number, factor), cf_part(number + 1, factor)])


EVERY = (cf_part, cf_held, cf_sum, cf_either, cf_each, cf_last)


async def failed(producer: FlowProducer, spec: FlowSpec[Any]) -> FlowHandle[Any]:
    """A flow that was added and has failed."""
    flow = await producer.add(spec)
    with pytest.raises(FlowFailed):
        await flow.result(30)
    return flow


async def test_a_failed_child_keeps_its_parent_from_running_and_fails_the_flow(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        flow = await producer.add(cf_strict(1))
        with pytest.raises(FlowFailed) as failure:
            await flow.result(30)
    snapshot = await flow.inspect()
    assert (failure.value.stage, snapshot.root_cause) == ("cf_part", "cf_part")
    assert (snapshot.stage("cf_part-2").state, snapshot.stage("cf_sum").state) == ("completed", "blocked")
    reason = snapshot.stage("cf_sum").reason
    assert reason is not None
    assert reason.code == "flow_ended"
    assert ran["cf_sum"] == 0


async def test_who_tolerates_a_failure_gets_it_as_a_value_and_the_flow_completes(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        flow = await producer.add(cf_tolerant(1))
        assert await flow.result(30) == "cf_part: Unrecoverable: cf_part is broken"
    snapshot = await flow.inspect()
    assert (snapshot.state, snapshot.failed, snapshot.root_cause) == ("completed", 0, None)
    assert snapshot.stage("cf_part").state == "failed"
    assert await told(flow) == [
        "added", "claimed cf_part", "failed cf_part",
        "released cf_either", "claimed cf_either", "completed cf_either", "completed",
    ]  # fmt: skip
    (listed,) = await producer.list(state="completed")
    assert (listed.finished, listed.failed) == (2, 0)


async def test_who_tolerates_a_failure_gets_the_result_when_there_is_one(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cf_tolerant(3))).result(30) == "3 and 0"


async def test_failed_items_of_a_list_are_left_out_and_the_others_keep_their_order(producer: FlowProducer) -> None:
    broken.update({"cf_part", "cf_part-3", "cf_part-5"})
    async with working(producer, *EVERY):
        assert await (await producer.add(cf_list([1, 20, 300, 4_000, 50_000]))).result(30) == 4_020


async def test_a_list_of_which_every_item_failed_is_empty(producer: FlowProducer) -> None:
    broken.update({"cf_part", "cf_part-2"})
    async with working(producer, *EVERY):
        assert await (await producer.add(cf_list([1, 2]))).result(30) == 0


async def test_failures_stand_in_a_list_where_their_results_would(producer: FlowProducer) -> None:
    broken.add("cf_part-2")
    async with working(producer, *EVERY):
        assert await (await producer.add(cf_mixed([1, 2, 3]))).result(30) == ["1", "cf_part-2", "3"]


async def test_a_failure_that_one_parent_tolerates_and_another_does_not_fails_the_flow(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        flow = await failed(producer, cf_both(1))
    assert (ran["cf_either"], ran["cf_sum"]) == (1, 0), "who tolerates it runs all the same"
    assert (await flow.inspect()).failed == 1


async def test_after_with_tolerate_only_waits_for_the_end(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        assert await (await producer.add(cf_ordered(1))).result(30) == "done"


async def test_a_pipeline_may_give_a_failure_as_its_result(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        result = await (await producer.add(cf_given(1))).result(30)
    assert isinstance(result, StageFailure)
    assert (result.stage, result.kind, result.attempts) == ("cf_part", "unrecoverable", 1)


async def test_siblings_of_a_failed_stage_go_on_to_their_end(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        flow = await producer.add(cf_slow(1))
        await gate.until_arrived()
        await until(flow, lambda snapshot: snapshot.stage("cf_part").state == "failed")
        snapshot = await flow.inspect()
        reason = snapshot.stage("cf_sum").reason
        assert snapshot.state == "running"
        assert reason is not None
        assert (reason.code, reason.sentence) == ("child_failed", "can't run: cf_part has failed")
        gate.opened.set()
        with pytest.raises(FlowFailed):
            await flow.result(30)
    assert (await flow.inspect()).stage("cf_held").state == "completed"


async def test_fail_fast_cancels_what_runs_beside(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        flow = await producer.add(cf_fast(1))
        with pytest.raises(FlowFailed) as failure:
            await flow.result(30)
    snapshot = await flow.inspect()
    states = {stage.name: stage.state for stage in snapshot.graph}
    assert failure.value.stage == "cf_part"
    assert (snapshot.state, states) == ("failed", {"cf_part": "failed", "cf_held": "cancelled", "cf_sum": "cancelled"})


async def test_fail_fast_leaves_alone_what_tolerates_the_failure(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        assert "broken" in await (await producer.add(cf_fast_but_tolerant(1))).result(30)


# ── retry by hand ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_retry_runs_what_failed_and_nothing_that_completed(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        flow = await failed(producer, cf_strict(1))
        broken.clear()
        assert await flow.retry() == 1
        assert await flow.result(30) == 3
    assert ran == {"cf_part": 2, "cf_part-2": 1, "cf_sum": 1}
    assert (await flow.inspect()).run == 2


async def test_a_retried_child_repairs_the_parents_that_tolerated_its_failure(producer: FlowProducer) -> None:
    broken.update({"cf_part"})
    async with working(producer, *EVERY):
        flow = await failed(producer, cf_both(7))
        assert ran["cf_either"] == 1
        broken.clear()
        assert await flow.retry() == 2
        assert await flow.result(30) == ("7 and 0", 7)
    assert ran["cf_either"] == 2


async def test_a_retry_of_what_fails_fast_runs_what_was_cancelled_too(producer: FlowProducer) -> None:
    broken.add("cf_part")
    async with working(producer, *EVERY):
        flow = await failed(producer, cf_fast(1))
        broken.clear()
        gate.opened.set()
        assert await flow.retry() == 3
        assert await flow.result(30) == 2


async def test_a_completed_flow_runs_again_from_a_stage_with_other_inputs(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cf_scaled(1, 10))
        assert await flow.result(30) == 30
        assert await flow.retry(from_stage="cf_part", overrides={"factor": 100}) == 2
        assert await flow.result(30) == 120
        assert await flow.result(run=1) == 30, "what it gave before is kept"
    assert ran == {"cf_part": 2, "cf_part-2": 1, "cf_sum": 2}
    snapshot = await flow.inspect()
    assert (snapshot.run, snapshot.state) == (2, "completed")
    assert [run.outcome for run in snapshot.stage("cf_part").history] == ["completed"]
    assert {stage.name: stage.reused for stage in snapshot.graph if stage.reused} == {"cf_part-2": Reused(flow.id, "cf_part-2")}


async def test_a_pattern_means_all_stages_that_it_fits(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cf_scaled(1, 10))
        await flow.result(30)
        assert await flow.retry(from_stage="cf_part*", overrides={"factor": 2}) == 3
        assert await flow.result(30) == 6


async def test_earlier_results_of_several_runs_are_told_apart(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cf_scaled(1, 10))
        for factor in (20, 30):
            await flow.result(30)
            await flow.retry(from_stage="cf_part*", overrides={"factor": factor})
        assert await flow.result(30) == 90
        assert [await flow.result(run=run) for run in (1, 2)] == [30, 60]


async def test_what_can_not_be_retried_so_is_refused_before_anything_changes(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cf_scaled(1, 10))
        await flow.result(30)
        seq = (await flow.inspect()).seq
        with pytest.raises(StageNotFound):
            await flow.retry(from_stage="absent")
        with pytest.raises(InvalidValue, match="factor, number"):
            await flow.retry(from_stage="cf_part", overrides={"height": 1})
        with pytest.raises(InvalidValue, match=r"cf_part\.factor"):
            await flow.retry(from_stage="cf_part", overrides={"factor": "much"})
        with pytest.raises(InvalidValue):
            await flow.retry(from_stage="cf_sum", overrides={"parts": [1]})
        with pytest.raises(InvalidValue, match="those that failed, or that from_stage names"):
            await flow.retry(overrides={"factor": 2})
        for overrides in ([1], "factor", {1: 2}):
            with pytest.raises(InvalidValue, match="overrides"):
                await flow.retry(from_stage="cf_part", overrides=overrides)  # type: ignore[arg-type]
        for run in (0, 1, 2, "1"):
            with pytest.raises(InvalidValue, match="run"):
                await flow.result(run=run)  # type: ignore[arg-type]
        assert await flow.retry() == 0
    assert (await flow.inspect()).seq == seq


async def test_events_of_a_second_run_follow_those_of_the_first(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cf_scaled(1, 10))
        await flow.result(30)
        seq = (await flow.inspect()).seq
        await flow.retry(from_stage="cf_sum")
        await flow.result(30)
        async with asyncio.timeout(30):
            events = [event async for event in flow.events(after=seq)]
    assert [f"{event.verb} {event.stage or ''}".strip() for event in events if isinstance(event, Event)] == [
        "retried cf_sum", "claimed cf_sum", "completed cf_sum", "completed",
    ]  # fmt: skip


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_failure_may_only_go_where_its_type_is_expected() -> None:
    @pipeline
    def cf_unexpected(number: int) -> int:
        return cf_part(tolerate(cf_part(number)))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

    with pytest.raises(ResultDoesNotFit, match="StageFailure"):
        cf_unexpected(1)


def test_only_results_of_stages_can_be_tolerated() -> None:
    @pipeline
    def cf_value(number: int) -> str:
        return cf_either(tolerate(number))

    with pytest.raises(InvalidValue, match="tolerate"):
        cf_value(1)


def test_outside_a_pipeline_both_are_transparent() -> None:
    assert (tolerate(3), succeeded([1, 2])) == (3, [1, 2])


def test_what_is_no_list_of_results_is_refused() -> None:
    @pipeline
    def wrong() -> int:
        return cf_sum(succeeded(cast("list[int]", 5)))

    for call in (wrong, lambda: succeeded(cast("list[int]", 5))):
        with pytest.raises(InvalidValue, match=r"succeeded\(…\) is 5"):
            call()
