"""Flows that are added under one key in several ways: what stands under the key decides, and what is added."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.model.dedup import Addition
from flowq.pipeline import Dedup
from tests.conformance.scene import gate
from tests.engine.work import working

pytestmark = pytest.mark.anyio

ONCE, WINDOW, DEBOUNCE = Dedup("k"), Dedup("k", window="1h"), Dedup("k", debounce="1h", max_wait="1h")
AT_ONCE, KEEP_LAST = Dedup("k", debounce="1ms"), Dedup("k", keep_last=True)

EACH = (ONCE, WINDOW, DEBOUNCE, KEEP_LAST)


@stage
async def dx_gated(text: str) -> str:
    await gate.stop_async()
    return text


@pipeline
def dx_held(text: str) -> str:
    return dx_gated(text)


@pytest.mark.parametrize(
    ("stands", "additions"),
    [
        (WINDOW, ("found", "found", "found", "found")),
        (ONCE, ("found", "found", "found", "kept")),
        (DEBOUNCE, ("found", "found", "replaced", "kept")),
        (KEEP_LAST, ("found", "found", "found", "kept")),
    ],
)
async def test_what_has_not_begun_makes_room_only_for_what_is_added_in_its_own_way(
    producer: FlowProducer, stands: Dedup, additions: tuple[Addition, ...]
) -> None:
    first = await producer.add(dx_held("first"), dedup=stands)
    added = [await producer.add(dx_held(name), dedup=key) for name, key in zip("uwdk", EACH, strict=True)]
    assert tuple(flow.addition for flow in added) == additions
    assert all((flow.id == first.id) == (flow.addition != "kept") for flow in added)


async def test_beside_a_debounced_flow_that_has_begun_only_another_debounced_one_is_added(producer: FlowProducer) -> None:
    first = await producer.add(dx_held("first"), dedup=AT_ONCE)
    async with working(producer, dx_gated):
        await gate.until_arrived()
        for key in (ONCE, WINDOW):
            assert (await producer.add(dx_held("next"), dedup=key)).id == first.id
        second = await producer.add(dx_held("second"), dedup=DEBOUNCE)
        assert (second.addition, (await second.inspect()).state) == ("added", "scheduled")
        gate.opened.set()


async def test_what_is_debounced_does_not_take_the_place_of_what_is_kept(producer: FlowProducer) -> None:
    await producer.add(dx_held("first"), dedup=AT_ONCE)
    async with working(producer, dx_gated):
        await gate.until_arrived()
        kept = await producer.add(dx_held("kept"), dedup=KEEP_LAST)
        saved = await producer.add(dx_held("saved"), dedup=DEBOUNCE)
        assert (saved.id, saved.addition) == (kept.id, "found")
        gate.opened.set()
        assert await saved.result(30) == "kept"


async def test_a_window_begins_only_with_a_flow_that_is_added_with_it(producer: FlowProducer) -> None:
    first = await producer.add(dx_held("first"), dedup=ONCE)
    assert not (await producer.add(dx_held("second"), dedup=WINDOW)).is_new
    await first.cancel()
    assert (await producer.add(dx_held("third"), dedup=ONCE)).is_new
