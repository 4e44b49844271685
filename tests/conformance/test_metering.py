"""What stages use up and what they log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from flowq import Backoff, FlowProducer, Unrecoverable, context, pipeline, stage
from flowq.errors import InvalidValue, StageNotFound
from flowq.store.keys import METERED
from flowq.store.views import Views
from tests.conformance.scene import gate
from tests.engine.waiting import in_the_end
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio

log = logging.getLogger("metering")


@pytest.fixture(autouse=True)
def _loud() -> Iterator[None]:
    """Everything is logged."""
    log.setLevel(logging.DEBUG)
    yield
    log.setLevel(logging.NOTSET)


@stage(attempts=2, backoff=Backoff.none())
async def me_ask(question: str) -> str:
    context().usage(tokens=100)
    context().usage(tokens=20, seconds=0.5)
    log.info("asked %s in attempt %d", question, context().attempt)
    if question == "twice" and context().attempt == 1:
        raise OSError("again")
    if question == "bad":
        raise Unrecoverable("no answer")
    return question


@stage
def me_check(answer: str) -> str:
    context().usage(tokens=1)
    try:
        raise ValueError("two\nlines")
    except ValueError:
        log.exception("checked")
    log.debug("done")
    return answer


@stage
async def me_held(lines: int) -> int:
    for number in range(lines):
        log.warning("line %d", number)
    await gate.stop_async()
    return lines


@stage
async def me_wrong(name: str) -> str:
    wrong: dict[str, dict[str, Any]] = {
        "negative": {"tokens": -1},
        "text": {"tokens": "1"},
        "nan": {"tokens": float("nan")},
        "many": {f"n{number}": 1 for number in range(21)},
    }
    try:
        context().usage(**wrong[name])
    except InvalidValue as error:
        return str(error)
    return "accepted"


@pipeline
def me_both(question: str) -> str:
    return me_check(me_ask(question))


EVERY = (me_ask, me_check)


async def test_what_stages_use_is_summed_for_the_stage_and_for_the_flow(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(me_both("once"), tenant="acme")
        await flow.result(30)
    snapshot = await flow.inspect()
    assert snapshot.stage("me_ask").usage == {"tokens": 120, "seconds": 0.5}
    assert snapshot.stage("me_check").usage == {"tokens": 1}
    assert snapshot.usage == {"tokens": 121, "seconds": 0.5}


async def test_attempts_that_failed_count_too(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(me_both("twice"))
        await flow.result(30)
        failed = await producer.add(me_both("bad"))
        await outcome(failed)
    assert (await flow.inspect()).stage("me_ask").usage == {"tokens": 240, "seconds": 1.0}
    assert (await failed.inspect()).usage == {"tokens": 120, "seconds": 0.5}


async def test_usage_is_summed_by_day_pipeline_and_tenant(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        for tenant in ("acme", "acme", "umbrella"):
            await (await producer.add(me_both("once"), tenant=tenant)).result(30)
        await (await producer.add(me_ask.flow("once"))).result(30)
    found = await producer.usage(days=2)
    sums: dict[tuple[str, str], float] = {}
    for one in found:
        sums[one.pipeline, one.tenant] = sums.get((one.pipeline, one.tenant), 0) + one.amounts["tokens"]
    assert sums == {("me_both", "acme"): 242, ("me_both", "umbrella"): 121, ("me_ask", ""): 120}
    assert {one.tenant for one in await producer.usage(tenant="acme")} == {"acme"}
    assert {one.pipeline for one in await producer.usage(pipeline="me_ask")} == {"me_ask"}
    await producer.prune(pipeline="me_ask")
    assert {one.pipeline for one in await producer.usage()} == {"me_both", "me_ask"}, "sums outlive their flows"
    with pytest.raises(InvalidValue, match="days"):
        await producer.usage(days=0)


async def test_a_damaged_sum_stops_nothing(producer: FlowProducer) -> None:
    store = producer._open.store
    today = await Views(store).now() // 86_400_000
    for tag in store.partitions:
        for day in (today, today + 1):  # midnight may pass meanwhile
            key = f"{tag}{METERED}{day}"
            await store.connection.commands(("HSET", key, "me_both||tokens", "none"), ("EXPIRE", key, 600))
    async with working(producer, *EVERY):
        flow = await producer.add(me_both("once"))
        assert await flow.result(30) == "once"
    assert (await flow.inspect()).usage["tokens"] == 121


@pytest.mark.parametrize("name", ["negative", "text", "nan", "many"])
async def test_an_amount_that_makes_no_sense_is_refused(producer: FlowProducer, name: str) -> None:
    async with working(producer, me_wrong):
        flow = await producer.add(me_wrong.flow(name))
        assert "usage" in await flow.result(30)
    assert (await flow.inspect()).usage == {}


async def test_what_stages_log_is_kept_with_their_flow(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(me_both("twice"))
        await flow.result(30)
    lines = [(line.stage, line.attempt, line.level, line.text) for line in await flow.logs()]
    assert lines[:2] == [("me_ask", 1, "INFO", "asked twice in attempt 1"), ("me_ask", 2, "INFO", "asked twice in attempt 2")]
    assert lines[2][:3] == ("me_check", 1, "ERROR")
    assert lines[2][3].startswith("checked\nTraceback")
    assert lines[2][3].endswith("ValueError: two\nlines")
    assert lines[3] == ("me_check", 1, "DEBUG", "done")
    assert [line.text for line in await flow.logs("me_c*")][1:] == ["done"]
    with pytest.raises(StageNotFound):
        await flow.logs("nobody")


async def test_logs_of_a_running_stage_can_be_read_and_are_bounded(producer: FlowProducer) -> None:
    async with working(producer, me_held):
        flow = await producer.add(me_held.flow(1_000))
        await gate.until_arrived()
        lines = await in_the_end(flow.logs)
        assert (len(lines), lines[0].text, lines[-1].text) == (200, "line 800", "line 999")
        gate.opened.set()
        await flow.result(30)
    assert len(await flow.logs()) == 200


async def test_what_others_log_is_not_taken_for_a_stage_s(producer: FlowProducer) -> None:
    async with working(producer, me_held, me_ask):
        flow = await producer.add(me_held.flow(1))
        await gate.until_arrived()
        log.warning("by the test")
        await asyncio.to_thread(log.warning, "by a thread of the test")
        gate.opened.set()
        await flow.result(30)
        quiet = await producer.add(me_ask.flow("x"))
        log.setLevel(logging.WARNING)
        await quiet.result(30)
    assert [line.text for line in await flow.logs()] == ["line 0"]
    assert len(await quiet.logs()) <= 1, "what the level holds back is not kept"


async def test_logs_go_with_their_flow(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(me_both("once"), id="once")
        await flow.result(30)
    await producer.prune(state="completed")
    assert await producer._open.store.connection.command("EXISTS", producer._open.store.keys.flow("once")) == 0
