"""Pipelines that are run again and again. The tests play the workers' duty by hand: time passes as they say."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq import Artifact, FlowProducer, pipeline, stage
from flowq.engine.duties.scheduler import Scheduler, makers_of
from flowq.errors import InvalidValue, ScheduleNotFound, WrongArguments
from flowq.model.schedule import ScheduleSnapshot
from flowq.store.keys import FIRINGS
from flowq.store.views import Views
from tests.conformance.scene import gate
from tests.engine.waiting import in_the_end
from tests.engine.work import PATIENCE, until, working

pytestmark = pytest.mark.anyio

MINUTE = 60_000


@stage
async def ck_step(number: int, clip: Artifact | None = None) -> int:
    return number


@stage
async def ck_wait(number: int) -> int:
    await gate.stop_async()
    return number


@pipeline
def ck_report(number: int, clip: Artifact | None = None) -> int:
    return ck_step(number, clip)


@pipeline
def ck_long(number: int) -> int:
    return ck_wait(number)


def scheduler_of(producer: FlowProducer) -> Scheduler:
    return Scheduler(producer._open.store, makers_of([ck_report, ck_long], [ck_step]))


async def comes_due(producer: FlowProducer, schedule_id: str, minutes_ago: int = 0) -> None:
    """The next firing is, or was, due at the minute so long ago."""
    store = producer._open.store
    at = (await Views(store).now() // MINUTE - minutes_ago) * MINUTE
    await store.connection.command("ZADD", store.keys.tag_of(schedule_id) + FIRINGS, at, schedule_id)


async def only(producer: FlowProducer) -> ScheduleSnapshot:
    (schedule,) = await producer.schedules()
    return schedule


async def flow_ids(producer: FlowProducer) -> list[str]:
    return sorted(flow.id for flow in await producer.list())


async def test_a_schedule_makes_a_flow_each_time_it_is_due(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1m", tenant="acme", tags=["beta"], priority=3, deadline="1h")
    schedule = await only(producer)
    assert (schedule.pipeline, schedule.timetable, schedule.inputs) == ("ck_report", "every 1m", {"clip": None, "number": 7})
    assert schedule.next_at is not None
    assert schedule.next_at % MINUTE == 0
    await comes_due(producer, "often")
    await scheduler_of(producer).run_once()
    fired = await only(producer)
    assert fired.last_flow == (await flow_ids(producer))[0]
    assert fired.last_at is not None
    assert (fired.next_at or 0) - fired.last_at == MINUTE
    flow = producer.flow(fired.last_flow, ck_report)
    snapshot = await flow.inspect()
    assert (snapshot.tenant, snapshot.tags, snapshot.priority) == ("acme", ("beta",), 3)
    assert (snapshot.deadline_at or 0) - snapshot.created_at == 3_600_000
    async with working(producer, ck_step):
        assert await flow.result(PATIENCE) == 7


async def test_a_worker_fires_the_schedules_of_its_pipelines(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1s")
    assert (await only(producer)).problem == "no worker knows pipeline ck_report"
    assert [finding.problem for finding in await producer.doctor() if finding.name == "schedules"] == [
        "often: no worker knows pipeline ck_report"
    ]
    async with working(producer, pipelines=[ck_report]):

        async def have_run() -> bool:
            return len(await producer.list(state="completed")) >= 2

        await in_the_end(have_run)
        assert (await only(producer)).problem == ""


async def test_many_workers_that_fire_at_once_make_one_flow(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1m", overlap="replace")
    await comes_due(producer, "often")
    await asyncio.gather(*(scheduler_of(producer).run_once() for _ in range(8)))
    (flow,) = await producer.list()
    assert flow.state == "ready", "nobody has cancelled it as the one before"


async def test_who_does_not_know_the_pipeline_leaves_it_to_others(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1m")
    await comes_due(producer, "often")
    await Scheduler(producer._open.store, makers_of([ck_long], [])).run_once()
    assert await flow_ids(producer) == []
    await scheduler_of(producer).run_once()
    assert len(await flow_ids(producer)) == 1


async def test_cron_is_told_in_its_time_zone(producer: FlowProducer) -> None:
    await producer.schedule("nightly", ck_report, 7, cron="0 2 * * *", tz="Europe/Berlin")
    assert (await only(producer)).timetable == "0 2 * * * in Europe/Berlin"


async def test_a_stage_can_be_scheduled_as_a_pipeline_of_one(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_step, 7, every="1m")
    await comes_due(producer, "often")
    await scheduler_of(producer).run_once()
    async with working(producer, ck_step):
        assert await producer.flow((await only(producer)).last_flow).result(PATIENCE) == 7


async def test_arguments_keep_their_types(producer: FlowProducer) -> None:
    clip = Artifact.existing("s3://bucket/clip.mp4")
    await producer.schedule("often", ck_report, 7, clip, every="1m")
    await comes_due(producer, "often")
    await scheduler_of(producer).run_once()
    by_hand = ck_report(7, clip)
    flow = await producer.add(by_hand, id=(await only(producer)).last_flow)
    assert not flow.is_new, "the same pipeline with the same inputs"


# ── overlap ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def two_firings(producer: FlowProducer, overlap: Any) -> str:
    """The second comes while the first flow runs; returns the id of that."""
    await producer.schedule("often", ck_long, 7, every="1m", overlap=overlap)
    await comes_due(producer, "often", minutes_ago=3)
    scheduler = scheduler_of(producer)
    # As if it were three minutes ago: a firing that was due then, and is not missed.
    now = await Views(producer._open.store).now() - 3 * MINUTE
    async for due in scheduler._schedules.due(producer._open.store.keys.tag_of("often"), now + 3 * MINUTE):
        await scheduler._fire(due, now)
    first = (await only(producer)).last_flow
    await comes_due(producer, "often")
    await scheduler.run_once()
    return first


async def test_a_firing_is_left_out_while_the_flow_before_runs(producer: FlowProducer) -> None:
    first = await two_firings(producer, "skip")
    schedule = await only(producer)
    assert await flow_ids(producer) == [first]
    assert (schedule.last_flow, schedule.note) == (first, f"flow {first} still ran")


async def test_a_firing_waits_for_the_flow_before(producer: FlowProducer) -> None:
    first = await two_firings(producer, "queue")
    assert await flow_ids(producer) == [first]
    gate.opened.set()
    async with working(producer, ck_wait):
        await producer.flow(first).result(PATIENCE)
    await scheduler_of(producer).run_once()
    assert len(await flow_ids(producer)) == 2


async def test_a_firing_that_waited_for_the_flow_before_was_not_missed(producer: FlowProducer) -> None:
    ten_minutes_ago = (await Views(producer._open.store).now() // MINUTE - 10) % 60
    await producer.schedule("hourly", ck_long, 7, cron=f"{ten_minutes_ago} * * * *", overlap="queue", catch_up="none")
    await comes_due(producer, "hourly", minutes_ago=70)
    scheduler = scheduler_of(producer)
    an_hour_ago = await Views(producer._open.store).now() - 70 * MINUTE
    async for due in scheduler._schedules.due(producer._open.store.keys.tag_of("hourly"), an_hour_ago + 60 * MINUTE):
        await scheduler._fire(due, an_hour_ago)
    first = (await only(producer)).last_flow
    await comes_due(producer, "hourly", minutes_ago=10)
    await scheduler.run_once()
    assert await flow_ids(producer) == [first]
    gate.opened.set()
    async with working(producer, ck_wait):
        await producer.flow(first).result(PATIENCE)
    await scheduler.run_once()
    assert (await only(producer)).note == ""
    assert len(await flow_ids(producer)) == 2


async def test_a_firing_replaces_the_flow_before(producer: FlowProducer) -> None:
    first = await two_firings(producer, "replace")
    assert len(await flow_ids(producer)) == 2
    snapshot = await until(producer.flow(first), lambda snapshot: snapshot.is_final)
    assert (snapshot.state, snapshot.cancel_reason) == ("cancelled", "schedule often has fired again")


# ── what was missed ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("catch_up", "flows"), [("one", 1), ("all", 4)])
async def test_missed_firings_are_made_up_for_as_is_wished(producer: FlowProducer, catch_up: Any, flows: int) -> None:
    await producer.schedule("often", ck_report, 7, every="1m", catch_up=catch_up)
    await comes_due(producer, "often", minutes_ago=3)
    async with working(producer, ck_step):
        for _ in range(6):
            await scheduler_of(producer).run_once()
            for flow_id in await flow_ids(producer):
                await producer.flow(flow_id).result(PATIENCE)
    assert len(await flow_ids(producer)) == flows


@pytest.mark.parametrize("overlap", ["skip", "replace"])
async def test_what_is_made_up_for_waits_for_the_one_before_whatever_the_overlap(producer: FlowProducer, overlap: Any) -> None:
    await producer.schedule("often", ck_long, 7, every="1m", catch_up="all", overlap=overlap)
    await comes_due(producer, "often", minutes_ago=3)
    scheduler = scheduler_of(producer)
    for made in (1, 2):
        await scheduler.run_once()
        await scheduler.run_once()
        assert len(await flow_ids(producer)) == made, "the first of them runs, and the others wait for its end"
        async with working(producer, ck_wait):
            gate.opened.set()
            assert await producer.flow((await only(producer)).last_flow).result(PATIENCE) == 7
    assert [flow.state for flow in await producer.list()] == ["completed", "completed"]
    assert (await only(producer)).note == ""


async def test_a_missed_firing_is_not_made_up_for_where_that_is_not_wished(producer: FlowProducer) -> None:
    ten_minutes_ago = (await Views(producer._open.store).now() // MINUTE - 10) % 60
    await producer.schedule("hourly", ck_report, 7, cron=f"{ten_minutes_ago} * * * *", catch_up="none")
    await comes_due(producer, "hourly", minutes_ago=10)
    await scheduler_of(producer).run_once()
    schedule = await only(producer)
    assert await flow_ids(producer) == []
    assert schedule.note.startswith("it was missed")
    assert schedule.next_at == (schedule.last_at or 0) + 60 * MINUTE


# ── steering ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_schedule_that_is_set_again_is_replaced_and_stays_in_step(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1m")
    await comes_due(producer, "often")
    due = (await only(producer)).next_at
    await producer.schedule("often", ck_report, 8, every="1m")
    schedule = await only(producer)
    assert (schedule.inputs["number"], schedule.next_at) == (8, due)
    await producer.schedule("often", ck_report, 8, every="2h")
    assert (await only(producer)).next_at != due


async def test_a_paused_schedule_does_not_fire_and_a_release_does_not_resume_it(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1m")
    await producer.pause_schedule("often")
    await producer.pause_schedule("often")
    assert (await only(producer)).next_at is None
    await producer.schedule("often", ck_report, 9, every="1m")
    await scheduler_of(producer).run_once()
    assert (await only(producer)).next_at is None
    await producer.resume_schedule("often")
    assert (await only(producer)).next_at is not None
    assert await flow_ids(producer) == []


async def test_a_schedule_can_be_run_by_hand_even_while_it_is_paused(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1m")
    await producer.pause_schedule("often")
    flow = await producer.run_schedule("often")
    await scheduler_of(producer).run_once()
    await scheduler_of(producer).run_once()
    assert await flow_ids(producer) == [flow.id]
    async with working(producer, ck_step):
        assert await flow.result(PATIENCE) == 7


async def test_a_schedule_that_is_removed_fires_no_more(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1m")
    await producer.run_schedule("often")
    await producer.unschedule("often")
    assert await producer.schedules() == []
    await scheduler_of(producer).run_once()
    assert await flow_ids(producer) == []
    store = producer._open.store
    assert [await store.connection.command("EXISTS", tag + FIRINGS) for tag in store.partitions] == [0] * len(store.partitions)


async def test_a_firing_whose_arguments_no_longer_fit_is_told_and_the_next_one_comes(producer: FlowProducer) -> None:
    await producer.schedule("often", ck_report, 7, every="1m")
    await comes_due(producer, "often")

    @pipeline(name="ck_report")
    def changed(number: int, wanted: str) -> int:
        return ck_step(number)

    await Scheduler(producer._open.store, makers_of([changed], [])).run_once()
    schedule = await only(producer)
    assert "ck_report" in schedule.note
    assert schedule.next_at is not None
    assert schedule.next_at > (schedule.last_at or 0)
    assert await flow_ids(producer) == []


async def test_what_makes_no_sense_is_refused_before_anything_is_written(producer: FlowProducer) -> None:
    with pytest.raises(InvalidValue):
        await producer.schedule("a b", ck_report, 7, every="1m")
    with pytest.raises(InvalidValue):
        await producer.schedule("often", ck_report, "seven", every="1m")
    with pytest.raises(WrongArguments):
        await producer.schedule("often", ck_report, every="1m")
    with pytest.raises(InvalidValue):
        await producer.schedule("often", ck_report(7), every="1m")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValue, match="overlap"):
        await producer.schedule("often", ck_report, 7, every="1m", overlap="both")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    with pytest.raises(InvalidValue, match="catch_up"):
        await producer.schedule("often", ck_report, 7, every="1m", catch_up="some")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for call in (producer.unschedule, producer.pause_schedule, producer.resume_schedule, producer.run_schedule):
        with pytest.raises(ScheduleNotFound):
            await call("missing")
    assert await producer.schedules() == []
