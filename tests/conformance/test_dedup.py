"""Flows that are added under one key: of which only the first is, and until when."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.errors import InvalidValue
from flowq.pipeline import Dedup
from flowq.store.keys import ONCE
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio


@stage
async def de_work(text: str) -> str:
    return text


@pipeline
def de_one(text: str) -> str:
    return de_work(text)


@pipeline
def de_two(text: str) -> str:
    return de_work(text)


async def test_within_the_window_nothing_is_added_and_the_first_is_given(producer: FlowProducer) -> None:
    key = Dedup("user:7", window="10m")
    first = await producer.add(de_one("a"), dedup=key)
    second = await producer.add(de_one("b"), dedup=key)
    assert (first.is_new, second.is_new, second.id) == (True, False, first.id)
    async with working(producer, de_work):
        assert await second.result(30) == "a"
    assert (await producer.add(de_one("c"), dedup=key)).id == first.id, "a window does not end with the flow"
    assert len(await producer.list()) == 1


async def test_when_the_window_is_over_another_is_added(producer: FlowProducer) -> None:
    key = Dedup("user:7", window="10m")
    first = await producer.add(de_one("a"), dedup=key)
    store = producer._open.store
    name = store.keys.tag_of(first.id) + ONCE + "de_one:user:7"
    assert 0 < await store.connection.command("PTTL", name) <= 600_000
    await store.connection.command("UNLINK", name)
    assert (await producer.add(de_one("b"), dedup=key)).is_new


async def test_without_a_window_the_next_is_added_when_the_first_has_ended(producer: FlowProducer) -> None:
    key = Dedup("user:7")
    first = await producer.add(de_one("a"), dedup=key)
    assert (await producer.add(de_one("b"), dedup=key)).id == first.id
    async with working(producer, de_work):
        await outcome(first)
        second = await producer.add(de_one("c"), dedup=key)
        assert (second.is_new, await second.result(30)) == (True, "c")
    third = await producer.add(de_one("d"), dedup=key)
    await third.cancel()
    assert (await producer.add(de_one("e"), dedup=key)).is_new


async def test_many_at_once_add_one(producer: FlowProducer) -> None:
    flows = await asyncio.gather(*(producer.add(de_one(str(n)), dedup=Dedup("k")) for n in range(20)))
    assert (len({flow.id for flow in flows}), sum(flow.is_new for flow in flows)) == (1, 1)
    bulk = await producer.add_bulk(de_one(str(n)).with_options(dedup=Dedup(f"b{n % 3}", "1h")) for n in range(30))
    assert (len({flow.id for flow in bulk}), sum(flow.is_new for flow in bulk)) == (3, 3)


async def test_each_pipeline_has_keys_of_its_own(producer: FlowProducer) -> None:
    one, two = [await producer.add(make("a"), dedup=Dedup("k")) for make in (de_one, de_two)]
    assert (one.is_new, two.is_new) == (True, True)
    assert (await producer.add(de_one("a"), dedup=Dedup("other"))).is_new


async def test_a_key_goes_with_the_flow_that_is_removed(producer: FlowProducer) -> None:
    flow = await producer.add(de_one("a"), dedup=Dedup("k"))
    await flow.cancel()
    store = producer._open.store
    name = store.keys.tag_of(flow.id) + ONCE + "de_one:k"
    assert await store.connection.command("EXISTS", name) == 1
    assert (await producer.prune(state="cancelled")).done == 1
    assert await store.connection.command("EXISTS", name) == 0


async def test_a_submission_that_is_repeated_is_no_duplicate_of_itself(producer: FlowProducer) -> None:
    store = producer._open.store
    spec = de_one("a").with_options(dedup=Dedup("k", "1h"))
    (first,) = await store.submit([("same", spec)])
    (again,) = await store.submit([("same", spec)])
    assert (first.is_new, again.is_new, again.flow_id) == (True, False, "same")


async def test_a_dedup_that_makes_no_sense_is_refused(producer: FlowProducer) -> None:
    for key, window in (("a b", None), ("", None), ("k", "soon"), ("k", 0)):
        with pytest.raises(InvalidValue, match="dedup"):
            Dedup(key, window)
    wrong: Any = "user:7"
    with pytest.raises(InvalidValue, match="dedup"):
        await producer.add(de_one("a"), dedup=wrong)
    with pytest.raises(InvalidValue, match="no id beside it"):
        await producer.add(de_one("a"), id="mine", dedup=Dedup("k"))
