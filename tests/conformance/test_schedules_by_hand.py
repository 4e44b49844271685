"""Schedules that somebody runs by hand: beside their timetable, which goes on as if nothing had happened."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.engine.duties.scheduler import Scheduler, makers_of
from flowq.errors import FlowCancelled, FlowNotFound, FlowNotMade, FlowTimedOut
from flowq.model.event import Event
from flowq.model.schedule import ScheduleSnapshot
from flowq.store.keys import FIRED, FIRINGS
from flowq.store.schedules import Due, Schedules
from flowq.store.views import Views
from flowq.store.wire import HolderInfo
from tests.engine.work import PATIENCE, working

pytestmark = pytest.mark.anyio

MINUTE = 60_000


@stage
async def sh_step(number: int) -> int:
    return number


@pipeline
def sh_report(number: int) -> int:
    return sh_step(number)


async def look(producer: FlowProducer, minutes_on: int = 0) -> None:
    """At what is due, so many minutes from now."""
    store = producer._open.store
    now = await Views(store).now() + minutes_on * MINUTE
    async for due in Schedules(store).due(store.keys.tag_of("often"), now):
        await Scheduler(store, makers_of([sh_report], []))._fire(due, now)


async def comes_due(producer: FlowProducer, minutes_ago: int = 0) -> None:
    store = producer._open.store
    at = (await Views(store).now() // MINUTE - minutes_ago) * MINUTE
    await store.connection.command("ZADD", store.keys.tag_of("often") + FIRINGS, at, "often")


async def only(producer: FlowProducer) -> ScheduleSnapshot:
    (schedule,) = await producer.schedules()
    return schedule


async def about_to_make(producer: FlowProducer, flow_id: str) -> tuple[Scheduler, Due]:
    """A worker that has seen what it is to make, and gets no further."""
    store = producer._open.store
    found = [due async for due in Schedules(store).due(store.keys.tag_of("often"), await Views(store).now())]
    return Scheduler(store, makers_of([sh_report], [])), next(due for due in found if due.flow_id == flow_id)


async def firings(producer: FlowProducer) -> list[str]:
    """What is still to be dealt with of the schedule."""
    store = producer._open.store
    members = await store.connection.command("ZRANGE", store.keys.tag_of("often") + FIRINGS, 0, -1)
    return [member.decode() for member in members]


async def flow_ids(producer: FlowProducer) -> set[str]:
    return {flow.id for flow in await producer.list()}


async def test_each_run_by_hand_is_a_flow_however_many_are_asked_for_before_a_worker_looks(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flows = [await producer.run_schedule("often") for _ in range(3)]
    await look(producer)
    await look(producer)
    assert await flow_ids(producer) == {flow.id for flow in flows}
    assert len({flow.id for flow in flows}) == 3
    async with working(producer, sh_step):
        assert [await flow.result(PATIENCE) for flow in flows] == [7, 7, 7]


async def test_what_was_missed_is_made_up_for_though_somebody_ran_it_by_hand_meanwhile(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1m", catch_up="all", overlap="queue")
    await comes_due(producer, minutes_ago=2)
    by_hand = await producer.run_schedule("often")
    async with working(producer, sh_step):
        for _ in range(5):
            await look(producer)
            for flow_id in await flow_ids(producer):
                await producer.flow(flow_id).result(PATIENCE)
    assert len(await flow_ids(producer) - {by_hand.id}) >= 3, "two that were missed, that of this minute, and perhaps of the next"
    assert ((await only(producer)).next_at or 0) > await Views(producer._open.store).now()


@pytest.mark.parametrize(("overlap", "flows"), [("skip", 2), ("queue", 2), ("replace", 3)])
async def test_overlap_is_about_the_flow_of_the_timetable(producer: FlowProducer, overlap: Any, flows: int) -> None:
    await producer.schedule("often", sh_report, 7, every="1m", overlap=overlap)
    await comes_due(producer)
    await look(producer)
    (timed,) = await flow_ids(producer)
    await comes_due(producer, minutes_ago=-60)
    by_hand = await producer.run_schedule("often")
    await look(producer)
    await by_hand.cancel()
    # The next firing is that of the next minute, as if it had come.
    await comes_due(producer, minutes_ago=-1)
    await look(producer, minutes_on=1)
    assert len(await flow_ids(producer)) == flows
    if overlap == "replace":
        assert (await producer.flow(timed).inspect()).state == "cancelled"


async def test_a_run_by_hand_is_not_cancelled_by_the_next_firing(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1m", overlap="replace")
    by_hand = await producer.run_schedule("often")
    await look(producer)
    await comes_due(producer)
    await look(producer)
    assert len(await flow_ids(producer)) == 2
    assert (await by_hand.inspect()).state == "ready"


async def test_the_latest_flow_is_told_also_if_it_was_made_by_hand(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1m")
    await comes_due(producer)
    await look(producer)
    due = (await only(producer)).next_at
    by_hand = await producer.run_schedule("often")
    await look(producer)
    schedule = await only(producer)
    assert (schedule.last_flow, schedule.next_at) == (by_hand.id, due)
    await producer.unschedule("often")
    store = producer._open.store
    assert await store.connection.command("EXISTS", store.keys.tag_of("often") + FIRED) == 0


async def test_a_timetable_goes_on_after_the_clock_of_the_server_was_put_back(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1m")
    await comes_due(producer)
    await look(producer)
    before = await only(producer)
    await comes_due(producer, minutes_ago=3)
    await look(producer, minutes_on=-2)
    assert await only(producer) == before


async def test_who_has_run_a_schedule_can_wait_for_its_flow_before_a_worker_has_made_it(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow = await producer.run_schedule("often")
    with pytest.raises(FlowTimedOut):
        await flow.result(0)
    assert await producer.find(flow.id) == flow.id

    async def verbs() -> list[str]:
        return [event.verb async for event in flow.events() if isinstance(event, Event)]

    waiting = asyncio.gather(flow.result(PATIENCE), verbs())
    await asyncio.sleep(0)
    async with working(producer, sh_step, pipelines=[sh_report]):
        result, told = await waiting
    assert (result, told[0]) == (7, "added")


async def test_who_looks_at_what_no_worker_has_made_is_told_why_not_at_once(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow = await producer.run_schedule("often")
    with pytest.raises(FlowNotMade, match="not made yet: no worker knows pipeline sh_report") as caught:
        await flow.inspect()
    assert not caught.value.is_cancelled


async def test_who_looks_at_what_a_worker_is_about_to_make_waits_for_it(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow, store = await producer.run_schedule("often"), producer._open.store
    await store.register(store.partitions[0], "holder", MINUTE, HolderInfo("holder", (), (), (), 1, pipelines=("sh_report",)))
    looking = asyncio.create_task(flow.inspect())
    await asyncio.sleep(0)
    await look(producer)
    assert (await looking).id == flow.id
    monkeypatch.setattr("flowq.engine.flow.one_flow._MADE_IN_SECONDS", 0)
    other = await producer.run_schedule("often")
    with pytest.raises(FlowNotMade) as told:
        await other.inspect()
    assert (told.value.problem, told.value.why) == (f"flow {other.id!r} is not made yet", "")


async def test_what_is_made_between_two_looks_is_found(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow = await producer.run_schedule("often")
    looked = Schedules.is_asked_for

    async def is_made_meanwhile(self: Schedules, flow_id: str) -> bool:
        await look(producer)
        return await looked(self, flow_id)

    monkeypatch.setattr(Schedules, "is_asked_for", is_made_meanwhile)
    assert (await flow.inspect()).state == "ready"


async def test_what_no_worker_has_made_yet_can_be_cancelled(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow, other = await producer.run_schedule("often"), await producer.run_schedule("often")
    assert [await flow.cancel(), await flow.cancel()] == [True, True]
    await look(producer)
    assert await flow_ids(producer) == {other.id}
    assert await producer.find(flow.id) == flow.id
    for handle in (flow, producer.flow(flow.id, sh_report)):
        with pytest.raises(FlowCancelled, match="cancelled before it was made"):
            await handle.result(PATIENCE)
    for deed in (flow.inspect(), flow.pause(), flow.retry()):
        with pytest.raises(FlowNotMade, match="cancelled before it was made") as caught:
            await deed
        assert caught.value.is_cancelled
    await look(producer, minutes_on=2)
    with pytest.raises(FlowNotFound):
        await flow.cancel()
    assert await firings(producer) == ["often"]


async def test_who_waits_for_what_is_cancelled_before_it_is_made_is_told_so(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow = await producer.run_schedule("often")
    waiting = asyncio.create_task(flow.result(PATIENCE))
    await asyncio.sleep(0)
    assert await flow.cancel()
    with pytest.raises(FlowCancelled):
        await waiting


async def test_what_is_made_while_it_is_cancelled_is_cancelled(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    for is_killed in (False, True):
        flow = await producer.run_schedule("often")
        scheduler, due = await about_to_make(producer, flow.id)
        assert await flow.cancel()
        if is_killed:  # before it could see that somebody has cancelled it
            await scheduler._made(due, due.at, due.flow_id)
            await look(producer, minutes_on=2)
        else:
            await scheduler._fire(due, due.at)
        assert (await flow.inspect()).state == "cancelled"
    assert await firings(producer) == ["often"]


async def test_what_was_made_just_before_it_is_cancelled_can_be_retried_at_once(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow = await producer.run_schedule("often")
    scheduler, due = await about_to_make(producer, flow.id)
    await scheduler._made(due, due.at, due.flow_id)
    assert await flow.cancel()
    await flow.retry()
    await scheduler._fire(due, due.at)
    await look(producer, minutes_on=2)
    assert (await flow.inspect()).state == "running"


async def test_what_else_is_done_to_what_no_worker_has_made_is_told_so(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow = await producer.run_schedule("often")
    deeds = (
        flow.pause(), flow.resume(), flow.retry(), flow.signal("go"), flow.logs(), flow.items("sh_step"),
        flow.artifact("sh_step"),
    )  # fmt: skip
    for deed in deeds:
        with pytest.raises(FlowNotMade, match="not made yet"):
            await deed
    assert not await flow.awaits("go")


async def test_what_is_asked_for_and_can_not_be_made_is_not_waited_for(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    flow = await producer.run_schedule("often")

    @pipeline(name="sh_report")
    def changed(number: int, wanted: str) -> int:
        return sh_step(number)

    await Scheduler(producer._open.store, makers_of([changed], [])).run_once()
    assert "sh_report" in (await only(producer)).note
    with pytest.raises(FlowNotFound):
        await flow.result(PATIENCE)


async def test_a_schedule_that_is_removed_takes_with_it_what_was_asked_for_by_hand(producer: FlowProducer) -> None:
    await producer.schedule("often", sh_report, 7, every="1d")
    asked_for = [await producer.run_schedule("often") for _ in range(150)]
    await producer.unschedule("often")
    with pytest.raises(FlowNotFound):
        await asked_for[0].result(PATIENCE)
    # Of another schedule under the same id nobody has asked for anything.
    await producer.schedule("often", sh_report, 8, every="1d")
    await look(producer)
    assert await flow_ids(producer) == set()
