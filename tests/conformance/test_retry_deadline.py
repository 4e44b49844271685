"""A retry by hand gives a flow a new deadline, or none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, pipeline, stage
from flowq.errors import FlowDeadlinePassed, InvalidValue
from flowq.store.keys import DUE
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@stage
async def rd_other(text: str) -> str:
    return text


@stage
async def rd_work(text: str) -> str:
    return text


@pipeline
def rd_flow(text: str) -> str:
    return rd_work(text)


async def out_of_time(producer: FlowProducer) -> FlowHandle[str]:
    flow = await producer.add(rd_flow("a"), deadline="1ms")
    async with working(producer, rd_other):  # the server's clock is looked at by who asks for work
        with pytest.raises(FlowDeadlinePassed):
            await flow.result(30)
    return flow


async def test_without_one_a_flow_that_was_out_of_time_has_no_deadline_any_more(producer: FlowProducer) -> None:
    flow = await out_of_time(producer)
    assert await flow.retry() == 1
    assert (await flow.inspect()).deadline_at is None
    async with working(producer, rd_work):
        assert await flow.result(30) == "a"


async def test_a_new_one_counts_from_the_retry(producer: FlowProducer) -> None:
    flow = await out_of_time(producer)
    assert await flow.retry(deadline="6h") == 1
    snapshot = await flow.inspect()
    hours = ((snapshot.deadline_at or 0) - snapshot.at) / 3_600_000
    assert 5.9 < hours <= 6
    store = producer._open.store
    async with working(producer, rd_work):
        assert await flow.result(30) == "a"
    assert await store.connection.command("ZCARD", store.keys.tag_of(flow.id) + DUE) == 0


async def test_a_flow_runs_out_of_its_new_time_too(producer: FlowProducer) -> None:
    flow = await out_of_time(producer)
    await flow.retry(deadline=datetime.now(UTC) + timedelta(milliseconds=1))
    async with working(producer, rd_other):
        with pytest.raises(FlowDeadlinePassed):
            await flow.result(30)


async def test_many_at_once_get_one_each(producer: FlowProducer) -> None:
    flow = await out_of_time(producer)
    assert (await producer.retry(pipeline="rd_flow", deadline="2h")).done == 1
    assert (await flow.inspect()).deadline_at is not None


async def test_a_deadline_that_makes_no_sense_is_refused_before_anything_changes(producer: FlowProducer) -> None:
    flow = await out_of_time(producer)
    wrong: Any
    for wrong in ("soon", 0, datetime(2030, 1, 1)):
        for retry in (flow.retry, producer.retry):
            with pytest.raises(InvalidValue, match="deadline"):
                await retry(deadline=wrong)
    assert (await flow.inspect()).state == "failed"
