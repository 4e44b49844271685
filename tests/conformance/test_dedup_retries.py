"""Flows of a key under which one runs at a time, when they are retried by hand."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, pipeline, stage
from flowq.errors import RetryOutOfTurn
from flowq.pipeline import Dedup
from tests.engine.work import PATIENCE, working

pytestmark = pytest.mark.anyio

broken: list[bool] = []


@pytest.fixture(autouse=True)
def _broken() -> None:
    """The stage fails until the test mends it."""
    broken[:] = [True]


@stage
async def dr_work(text: str) -> str:
    if broken:
        raise ValueError(text)
    return text


@pipeline
def dr_one(text: str) -> str:
    return dr_work(text)


async def failed(producer: FlowProducer, count: int, key: Dedup) -> list[FlowHandle[str]]:
    """So many flows, each of which had failed before the next was added."""
    flows: list[FlowHandle[str]] = []
    async with working(producer, dr_work):
        for number in range(count):
            flow = await producer.add(dr_one(str(number)), dedup=key)
            assert flow.is_new
            with pytest.raises(Exception, match="ValueError"):
                await flow.result(PATIENCE)
            flows.append(flow)
    broken.clear()
    return flows


@pytest.mark.parametrize("key", [Dedup("user:7"), Dedup("user:7", keep_last=True)], ids=lambda key: key.mode)
async def test_of_the_failed_flows_of_a_key_one_is_retried_at_a_time(producer: FlowProducer, key: Dedup) -> None:
    flows = await failed(producer, 3, key)
    report = await producer.retry(pipeline="dr_one")
    assert (report.done, len(report.errors)) == (1, 2)
    assert all("RetryOutOfTurn" in one.error and "added under the same key" in one.error for one in report.errors)
    async with working(producer, dr_work):
        (again,) = [flow for flow in flows if (await flow.inspect()).state != "failed"]
        await again.result(PATIENCE)
    assert (await producer.retry(pipeline="dr_one")).done == 1, "it has ended: the next one may run"


async def test_a_retry_is_refused_before_anything_changes_while_another_flow_of_the_key_runs(producer: FlowProducer) -> None:
    (old,) = await failed(producer, 1, Dedup("user:7"))
    before = (await old.inspect()).seq
    new = await producer.add(dr_one("new"), dedup=Dedup("user:7"))
    with pytest.raises(RetryOutOfTurn, match="added under the same key, has not ended") as refused:
        await old.retry()
    assert (refused.value.flow_id, refused.value.other) == (old.id, new.id)
    assert ((await old.inspect()).state, (await old.inspect()).seq) == ("failed", before)
    await new.cancel()
    assert await old.retry() == 1


async def test_one_that_is_retried_stands_for_the_key_until_it_ends(producer: FlowProducer) -> None:
    flows = await failed(producer, 2, Dedup("user:7"))
    assert await flows[0].retry() == 1
    found = await producer.add(dr_one("new"), dedup=Dedup("user:7"))
    assert (found.id, found.addition) == (flows[0].id, "found")
    async with working(producer, dr_work):
        await found.result(PATIENCE)
    assert (await producer.add(dr_one("newer"), dedup=Dedup("user:7"))).is_new


async def test_the_last_one_that_is_added_waits_for_one_that_is_retried(producer: FlowProducer) -> None:
    key = Dedup("user:7", keep_last=True)
    first, second = await failed(producer, 2, key)
    assert await first.retry() == 1
    kept = await producer.add(dr_one("new"), dedup=key)
    assert (kept.addition, (await kept.inspect()).state) == ("kept", "scheduled")
    async with working(producer, dr_work):
        assert [await first.result(PATIENCE), await kept.result(PATIENCE)] == ["0", "new"]
    assert await second.retry() == 1


async def test_one_that_was_kept_and_cancelled_is_not_retried_beside_the_one_it_waited_for(producer: FlowProducer) -> None:
    broken.clear()
    key = Dedup("user:7", keep_last=True)
    first, kept = [await producer.add(dr_one(text), dedup=key) for text in ("first", "kept")]
    await kept.cancel()
    with pytest.raises(RetryOutOfTurn, match=first.id):
        await kept.retry()


@pytest.mark.parametrize(("key", "found"), [(Dedup("k", window="1h"), 0), (Dedup("k", debounce="1ms"), 1)])
async def test_keys_that_let_flows_run_side_by_side_let_them_be_retried_so(producer: FlowProducer, key: Any, found: int) -> None:
    (old,) = await failed(producer, 1, key)
    new = await producer.add(dr_one("new"), dedup=key)
    assert (new.addition != "found") == found
    assert await old.retry() == 1
