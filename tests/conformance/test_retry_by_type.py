"""Retry by the type of the error: `retry_on=` and `unrecoverable=` of a stage."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq import Backoff, FlowHandle, FlowProducer, RetryAfter, StageFailure, Unrecoverable, context, pipeline, stage, tolerate
from flowq.errors import FlowFailed, InvalidValue, StageStalled, StageTimedOut, StorageUnreachable
from flowq.pipeline.retry_types import RetryTypes
from tests.conformance.scene import ran
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio

# What is raised by the next runs, in this order; then they succeed.
errors: list[Exception] = []
NOW = Backoff.none()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing is raised."""
    errors.clear()


def work() -> int:
    ran[context().stage] += 1
    if errors:
        raise errors.pop(0)
    return ran[context().stage]


@stage(attempts=4, backoff=NOW, retry_on=(ConnectionError, TimeoutError))
def rt_listed() -> int:
    return work()


@stage(attempts=4, backoff=NOW, retry_on=(ConnectionError, TimeoutError))
async def rt_listed_async() -> int:
    return work()


@stage(attempts=4, backoff=NOW, unrecoverable=LookupError)
async def rt_unlisted() -> int:
    return work()


@stage(attempts=4, backoff=NOW, retry_on=OSError, unrecoverable=FileNotFoundError)
async def rt_both() -> int:
    return work()


@stage(attempts=2, backoff=NOW, timeout="50ms", retry_on=ConnectionError)
async def rt_slow() -> int:
    if context().attempt == 1:
        await asyncio.Event().wait()
    return context().attempt


@stage(attempts=3, backoff=NOW, retry_on=ConnectionError)
async def rt_item(number: int) -> int:
    ran[context().stage] += 1
    if number == 1:
        raise ValueError("no number of mine")
    if number == 2 and context().attempt == 1:
        raise ConnectionResetError("again")
    return number


@stage
async def rt_seen(part: int | StageFailure) -> str:
    return f"{part.kind} after {part.attempts}" if isinstance(part, StageFailure) else str(part)


@pipeline
def rt_tolerant() -> str:
    return rt_seen(tolerate(rt_listed()))


@pipeline
def rt_mapped() -> list[int]:
    return rt_item.map([0, 1, 2])


async def failed_at_once(flow: FlowHandle[Any], name: str) -> str:
    """The failure of a stage that was not retried."""
    assert isinstance(await outcome(flow), FlowFailed)
    failure = (await flow.inspect()).stage(name).failure
    assert failure is not None
    assert (ran[name], failure.kind) == (1, "unrecoverable")
    return failure.line


@pytest.mark.parametrize("made", [rt_listed, rt_listed_async], ids=["plain", "async"])
async def test_only_what_retry_on_lists_is_retried_and_what_is_below_it(producer: FlowProducer, made: Any) -> None:
    errors.extend([ConnectionResetError("reset"), TimeoutError("late"), ValueError("no such video")])
    async with working(producer, made):
        flow = await producer.add(made.flow())
        assert isinstance(error := await outcome(flow), FlowFailed)
        failure = (await flow.inspect()).stage(made.name).failure
    assert failure is not None
    assert (error.error_type, failure.kind, ran[made.name]) == ("ValueError", "unrecoverable", 3)
    assert "raise errors.pop(0)" in failure.traceback


async def test_what_unrecoverable_lists_fails_at_once_and_all_else_is_retried(producer: FlowProducer) -> None:
    async with working(producer, rt_unlisted):
        errors.extend([ValueError("once"), OSError("twice")])
        assert await outcome(await producer.add(rt_unlisted.flow())) == 3
        ran.clear()
        errors.append(KeyError("title"))
        assert await failed_at_once(await producer.add(rt_unlisted.flow()), "rt_unlisted") == "KeyError: 'title'"


async def test_unrecoverable_goes_before_retry_on(producer: FlowProducer) -> None:
    async with working(producer, rt_both):
        errors.append(PermissionError("not yet"))
        assert await outcome(await producer.add(rt_both.flow())) == 2
        ran.clear()
        errors.append(FileNotFoundError("gone"))
        assert await failed_at_once(await producer.add(rt_both.flow()), "rt_both") == "FileNotFoundError: gone"


async def test_retry_after_and_unrecoverable_mean_what_they_always_mean(producer: FlowProducer) -> None:
    async with working(producer, rt_listed_async):
        errors.append(RetryAfter("1ms", "429"))
        assert await outcome(await producer.add(rt_listed_async.flow())) == 2
        ran.clear()
        errors.append(Unrecoverable("never"))
        line = await failed_at_once(await producer.add(rt_listed_async.flow()), "rt_listed_async")
    assert line == "Unrecoverable: never"


async def test_a_timeout_of_the_stage_is_retried_though_no_type_lists_it(producer: FlowProducer) -> None:
    async with working(producer, rt_slow):
        assert await outcome(await producer.add(rt_slow.flow())) == 2


async def test_an_outage_of_the_artifact_storage_is_retried_though_no_type_lists_it(producer: FlowProducer) -> None:
    errors.append(StorageUnreachable("s3://videos", "refused"))
    async with working(producer, rt_listed_async):
        assert await outcome(await producer.add(rt_listed_async.flow())) == 2


async def test_a_call_with_options_of_its_own_keeps_the_types_of_its_stage(producer: FlowProducer) -> None:
    errors.append(ValueError("no"))
    more = rt_listed_async.with_options(name="more", attempts=9)
    async with working(producer, rt_listed_async):
        assert await failed_at_once(await producer.add(more.flow()), "more") == "ValueError: no"


async def test_an_item_of_a_map_is_retried_by_the_types_of_its_stage(producer: FlowProducer) -> None:
    async with working(producer, rt_item):
        assert isinstance(await outcome(await producer.add(rt_mapped())), FlowFailed)
    assert ran["rt_item[1]"] == 1


async def test_who_tolerates_the_failure_is_told_that_it_was_unrecoverable(producer: FlowProducer) -> None:
    errors.append(ValueError("no"))
    async with working(producer, rt_listed, rt_seen):
        assert await outcome(await producer.add(rt_tolerant())) == "unrecoverable after 1"


async def test_a_stage_in_a_process_of_its_own_is_judged_there(producer: FlowProducer) -> None:
    async with working(producer, rt_isolated):
        flow = await producer.add(rt_isolated.flow())
        assert isinstance(await outcome(flow), FlowFailed)
        snapshot = (await flow.inspect()).stage("rt_isolated")
    assert snapshot.failure is not None
    assert (snapshot.attempt, snapshot.failure.kind) == (1, "unrecoverable")


@stage(attempts=3, backoff=NOW, isolation="process", retry_on=ConnectionError)
def rt_isolated() -> int:
    raise ValueError("no")


def test_a_group_of_errors_is_judged_by_what_it_holds() -> None:
    listed = RetryTypes(ConnectionError, unrecoverable=ConnectionAbortedError)
    reset, wrong, aborted = ConnectionResetError(), ValueError(), ConnectionAbortedError()
    assert not listed.is_final(ExceptionGroup("all", [reset, ExceptionGroup("inner", [reset])]))
    assert listed.is_final(ExceptionGroup("one is not", [reset, wrong]))
    assert listed.is_final(ExceptionGroup("deep", [ExceptionGroup("inner", [reset, aborted])]))
    assert not listed.is_final(ExceptionGroup("busy", [RetryAfter("1s"), reset]))
    assert not RetryTypes(Exception).is_final(ExceptionGroup("any", [wrong]))


@pytest.mark.parametrize("option", ["retry_on", "unrecoverable"])
@pytest.mark.parametrize(
    "given",
    [
        "ValueError",
        ValueError("no"),
        [ValueError],
        (ValueError, "x"),
        int,
        KeyboardInterrupt,
        StageTimedOut,
        StageStalled,
        RetryAfter,
    ],
    ids=repr,
)
def test_what_is_no_type_of_errors_or_would_have_no_effect_is_refused_where_it_is_written(option: str, given: object) -> None:
    with pytest.raises(InvalidValue, match=option) as caught:
        stage(**{option: given})  # type: ignore[call-overload]
    assert caught.value.field == option


def test_types_of_which_none_could_ever_be_retried_are_refused() -> None:
    with pytest.raises(InvalidValue, match="retry_on is <class 'ConnectionError'>"):
        stage(retry_on=ConnectionError, unrecoverable=OSError)
    with pytest.raises(InvalidValue, match="at least one type"):
        stage(retry_on=())
