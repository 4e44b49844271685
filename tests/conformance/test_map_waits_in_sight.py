"""What `inspect` shows of maps whose items wait, of maps with many failures, and of results made by maps."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowProducer, Unrecoverable, context, pipeline, stage
from flowq.cli.render.flow import flow_view
from flowq.cli.render.ink import painted
from flowq.cli.render.screen import Screen
from flowq.model.snapshot import FlowSnapshot
from tests.engine.work import outcome, until, working

pytestmark = pytest.mark.anyio


@stage
async def mw_count(count: int) -> list[int]:
    return list(range(count))


@stage
async def mw_waits(number: int, nap: int = 3) -> int:
    if number == 4:
        raise Unrecoverable("four")
    if number == 2 or number >= 15:
        await context().wait_for_signal("go")
    if number >= nap:
        await context().sleep("1h")
    return number


@stage
async def mw_fails(number: int) -> int:
    raise Unrecoverable(f"number {number}")


@stage
async def mw_same(number: int) -> int:
    return number


@pipeline
def mw_waiting(count: int) -> list[int]:
    return mw_waits.map(mw_count(count))


@pipeline
def mw_failing(count: int) -> list[int]:
    return mw_fails.map(mw_count(count))


@pipeline
def mw_listed(count: int) -> dict[str, Any]:
    return {"all": mw_same.map(mw_count(count)), "count": count}


@pipeline
def mw_bare(count: int) -> list[int]:
    return mw_same.map(mw_count(count))


def shown(snapshot: FlowSnapshot) -> str:
    return painted(flow_view(snapshot, Screen(120)), False)


async def test_items_that_wait_are_counted_and_listed_apart_and_the_signal_can_be_sent(producer: FlowProducer) -> None:
    async with working(producer, mw_count, mw_waits):
        flow = await producer.add(mw_waiting(5), id="gm")
        snapshot = await until(flow, lambda now: (items := now.stage("mw_waits").items) is not None and items.suspended == 2)
        items = snapshot.stage("mw_waits").items
        assert items is not None
        assert (items.completed, items.suspended, items.failed, items.waiting, items.running) == (2, 2, 1, 0, 0)
        assert [item.name for item in items.listed] == ["mw_waits[4]", "mw_waits[2]", "mw_waits[3]"]
        text = shown(snapshot)
        assert "2 ✔ 2 ‖ 1 ✘" in text
        assert "0 running" not in text
        assert "flowq signal gm go VALUE" in text


async def test_of_many_items_that_wait_those_that_wait_for_signals_are_listed_first(producer: FlowProducer) -> None:
    async with working(producer, mw_count, mw_waits):
        flow = await producer.add(mw_waiting(20))
        snapshot = await until(flow, lambda now: (items := now.stage("mw_waits").items) is not None and items.suspended == 17)
    items = snapshot.stage("mw_waits").items
    assert items is not None
    listed = [item.name for item in items.listed if item.state == "suspended"]
    assert len(listed) == 10
    assert {f"mw_waits[{number}]" for number in (2, 15, 16, 17, 18, 19)} <= set(listed)
    assert "and 7 more suspended" in shown(snapshot)


async def test_failed_items_that_are_not_listed_are_counted_below(producer: FlowProducer) -> None:
    async with working(producer, mw_count, mw_fails):
        flow = await producer.add(mw_failing(12))
        await outcome(flow)
    assert "… and 2 more failed: `flowq inspect --all` has them" in shown(await flow.inspect())
    assert "more failed" not in shown(await flow.inspect(items=True))


async def test_a_short_list_that_a_map_made_is_shown_in_the_result(producer: FlowProducer) -> None:
    async with working(producer, mw_count, mw_same):
        flows = [await producer.add(pipeline(count)) for pipeline, count in ((mw_listed, 3), (mw_bare, 3), (mw_bare, 0))]
        whole = [await flow.result(30) for flow in flows]
    assert [(await flow.inspect()).result for flow in flows] == whole == [{"all": [0, 1, 2], "count": 3}, [0, 1, 2], []]


async def test_of_a_long_list_that_a_map_made_the_size_is_told_and_how_to_get_it(producer: FlowProducer) -> None:
    async with working(producer, mw_count, mw_same):
        flow = await producer.add(mw_listed(101), id="n4")
        await flow.result(30)
    snapshot = await flow.inspect()
    assert (snapshot.result, snapshot.result_items) == (None, 101)
    assert "101 items: `flowq result n4`" in shown(snapshot)
