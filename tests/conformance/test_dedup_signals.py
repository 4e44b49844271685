"""Signals to flows whose place others of their key take before they have begun: who sends one knows only the id."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, context, pipeline, stage
from flowq.errors import SignalConflict
from flowq.pipeline import Dedup
from tests.conformance.in_the_store import its_time_comes
from tests.engine.work import PATIENCE, working

pytestmark = pytest.mark.anyio


@stage
async def ds_asks(text: str) -> str:
    first = await context().wait_for_signal("first", int, "10ms", default=0)
    second = await context().wait_for_signal("second", int, "10ms", default=0)
    return f"{text} {first} {second}"


@pipeline
def ds_one(text: str) -> str:
    return ds_asks(text)


async def test_a_signal_reaches_the_flow_that_took_the_place_of_the_one_it_was_sent_to(producer: FlowProducer) -> None:
    key = Dedup("user:7", debounce="1h")
    flow = await producer.add(ds_one("a"), dedup=key)
    assert await flow.signal("first", 5)
    await producer.add(ds_one("b"), dedup=key)
    assert await flow.signal("second", 6)
    await producer.add_bulk([ds_one(text).with_options(dedup=key) for text in ("c", "d")])
    with pytest.raises(SignalConflict):
        await flow.signal("first", 7)
    assert not await flow.signal("second", 6), "it is known"
    assert await its_time_comes(producer, flow, "b") == 1
    async with working(producer, ds_asks):
        assert await flow.result(PATIENCE) == "d 5 6"


async def test_so_it_does_where_the_last_one_is_kept_or_the_flow_is_paused(producer: FlowProducer) -> None:
    key = Dedup("user:7", keep_last=True)
    first = await producer.add(ds_one("a"), dedup=key)
    kept = await producer.add(ds_one("b"), dedup=key)
    await kept.pause()
    assert await kept.signal("first", 5)
    assert (await producer.add(ds_one("c"), dedup=key)).addition == "replaced"
    async with working(producer, ds_asks):
        assert await first.result(PATIENCE) == "a 0 0"
        assert (await kept.inspect()).state == "paused"
        await kept.resume()
        assert await kept.result(PATIENCE) == "c 5 0"


async def test_a_flow_under_a_new_id_gets_no_signal_of_another(producer: FlowProducer) -> None:
    first = await producer.add(ds_one("a"), dedup=Dedup("user:7"))
    assert await first.signal("first", 5)
    await first.cancel()
    second = await producer.add(ds_one("b"), dedup=Dedup("user:7"))
    async with working(producer, ds_asks):
        assert await second.result(PATIENCE) == "b 0 0"
