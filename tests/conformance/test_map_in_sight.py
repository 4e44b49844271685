"""Maps under what finds, meters, versions, foresees and removes flows."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from flowq import Artifact, FlowProducer, Unrecoverable, context, pipeline, stage
from flowq.errors import InvalidValue, StageNotFound
from flowq.model.forecast import Forecast, StageRun
from flowq.model.keep import Keep
from flowq.model.snapshot import ItemsSnapshot, StageSnapshot
from flowq.pipeline import Stage
from flowq.pipeline.options import StageOptions
from tests.conformance.after_the_end import archived, pruner_of
from tests.conformance.scene import broken, gate
from tests.engine.work import outcome, until, working

pytestmark = pytest.mark.anyio


@stage
async def mi_count(count: int) -> list[int]:
    return list(range(count))


@stage
async def mi_told(number: int, factor: int = 1) -> int:
    logging.getLogger("mi").warning("number %d", number)
    context().usage(tokens=number)
    if number in broken:
        raise Unrecoverable(f"number {number} is broken")
    return number * factor


@stage
async def mi_held(number: int) -> int:
    if number == 3:
        await gate.stop_async()
    return number


@stage
async def mi_written(number: int) -> Artifact:
    async with context().new_artifact("part.txt") as sink:
        await sink.write(str(number).encode())
    return sink.artifact


@stage
async def mi_sum(numbers: list[int]) -> int:
    context().usage(tokens=100)
    return sum(numbers)


@pipeline
def mi_all(count: int) -> int:
    return mi_sum(mi_told.map(mi_count(count)))


@pipeline(fail_fast=True)
def mi_at_once(count: int) -> int:
    return mi_sum(mi_told.map(mi_count(count)))


@pipeline
def mi_waiting(count: int) -> int:
    return mi_sum(mi_held.map(mi_count(count)))


@pipeline
def mi_wide(count: int) -> int:
    return mi_sum(mi_told.map(mi_count(count), factor=2))


@pipeline
def mi_files(count: int) -> list[Artifact]:
    return mi_written.map(mi_count(count))


async def second(number: int, factor: int) -> int:
    return number * factor


NEWER = Stage(second, "mi_told", StageOptions().changed(version="2"))


@pipeline
def mi_newer(count: int) -> int:
    return mi_sum(NEWER.map(mi_count(count), factor=3))


EVERY = (mi_count, mi_told, mi_held, mi_written, mi_sum)


async def test_what_items_use_up_counts_for_their_map_and_their_flow(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(mi_all(5), tenant="acme")
        await flow.result(30)
    snapshot = await flow.inspect(items=True)
    assert (snapshot.usage, snapshot.stage("mi_told").usage) == ({"tokens": 110}, {"tokens": 10})
    assert snapshot.stage("mi_told[3]").usage == {"tokens": 3}
    assert [one.amounts for one in await producer.usage(tenant="acme")] == [{"tokens": 110}], "metered once"


async def test_what_items_log_is_told_by_item_and_by_map(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(mi_all(12))
        await flow.result(30)
    assert sorted(line.stage for line in await flow.logs()) == sorted(f"mi_told[{number}]" for number in range(12))
    assert len(await flow.logs("mi_t*")) == len(await flow.logs("mi_told")) == 12
    assert [(line.stage, line.text) for line in await flow.logs("mi_told[11]")] == [("mi_told[11]", "number 11")]
    assert await flow.logs("mi_told[12]") == []
    with pytest.raises(StageNotFound):
        await flow.logs("mi_sum[0]")


@pytest.mark.parametrize("pipeline", [mi_all, mi_at_once])
async def test_dead_letters_group_items_under_their_map(producer: FlowProducer, pipeline: Any) -> None:
    async with working(producer, *EVERY):
        for number in (1, 2):
            broken.clear()
            broken.add(number)
            await outcome(await producer.add(pipeline(4), id=f"bad-{number}"))
        (group,) = await producer.dead()
        assert (group.count, group.stage, group.cause) == (2, "mi_told", "Unrecoverable: number <n> is broken")
        assert {flow.id for flow in await producer.list(cause="Unrecoverable: number 2 *")} == {"bad-2"}
        snapshot = await producer.flow("bad-1").inspect()
        assert (snapshot.root_cause, snapshot.cause) == ("mi_told[1]", "Unrecoverable: number 1 is broken")
        assert snapshot.fail_reason == ""
        broken.clear()
        report = await producer.retry(dead=group.key)
        assert (report.matched, report.done, report.errors) == (2, 2, [])
        assert [await producer.flow(f"bad-{number}").result(30) for number in (1, 2)] == [6, 6]


async def test_items_need_the_version_of_their_map(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(mi_newer(4))
        waiting = await until(flow, lambda snapshot: snapshot.stage("mi_told").reason is not None and snapshot.finished == 1)
        reason = waiting.stage("mi_told").reason
        assert reason is not None
        assert reason.sentence == "no worker has version 2 of mi_told; there is one without a version"
        report = await producer.check(stages=[mi_count, mi_told, mi_sum])
        assert [(one.stage, one.code) for one in report.strandings] == [("mi_told@2", "version")]
        assert (await producer.check(stages=[mi_count, NEWER, mi_sum])).strandings == []
    async with working(producer, mi_sum, NEWER):
        assert await flow.result(30) == 18
    assert {item.version for item in await flow.items("mi_told")} == {"2"}


async def test_an_item_gets_another_argument_of_its_own_kind_only(producer: FlowProducer) -> None:
    broken.add(2)
    async with working(producer, *EVERY):
        flow = await producer.add(mi_wide(4))
        await outcome(flow)
        with pytest.raises(InvalidValue, match="number"):
            await flow.retry(from_stage="mi_told[2]", overrides={"number": "two"})
        assert await flow.retry(from_stage="mi_told[2]", overrides={"number": 10}) == 1
        assert await flow.result(30) == (0 + 1 + 10 + 3) * 2


async def test_a_map_is_foreseen_by_its_items_and_by_earlier_maps() -> None:
    items = ItemsSnapshot(count=4, completed=3, running=1, failed=0, waiting=0, need=4, at_once=0)
    graph = [
        StageSnapshot(name="encode", stage="encode", queue="q", state="suspended", run_seconds=30.0, progress=0.75, items=items)
    ]
    assert Forecast().eta_seconds(graph, 0) == pytest.approx(10)
    runs = [StageRun("encode", "encode[]", 100.0)]
    assert Forecast(runs).eta_seconds(graph, 0) == pytest.approx(10), "what it tells itself counts more"
    begun = [
        StageSnapshot(name="encode", stage="encode", queue="q", state="suspended", run_seconds=30.0, progress=0.0, items=items)
    ]
    assert Forecast(runs).eta_seconds(begun, 0) == pytest.approx(70)
    single = [StageSnapshot(name="encode-2", stage="encode", queue="q", state="ready")]
    assert Forecast(runs).eta_seconds(single, 0) is None, "a map tells nothing of one run of its function"


async def test_a_flow_with_an_open_map_tells_its_progress_by_earlier_flows(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await (await producer.add(mi_waiting(2))).result(30)
        flow = await producer.add(mi_waiting(4))
        snapshot = await until(flow, lambda snapshot: (snapshot.stage("mi_held").progress or 0) == 0.75)
        assert 0 < snapshot.progress < 1
        assert snapshot.eta_seconds is not None
        gate.opened.set()
        await flow.result(30)


async def test_a_removed_flow_is_archived_with_its_items(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await (await producer.add(mi_all(30), id="mapped")).result(30)
    assert await pruner_of(producer, Keep(completed_most=0), archive=True).run_once() == 1
    (mapped,) = [known for known in archived(producer)["mapped"]["graph"] if known["name"] == "mi_told"]
    assert [item["result"] for item in mapped["items"]["listed"]] == list(range(30))


@pytest.mark.parametrize("stay", [True, False])
async def test_artifacts_of_items_lead_to_their_flow_and_go_with_it_if_they_are_to(producer: FlowProducer, stay: bool) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(mi_files(3), id="files/of:items")
        written = await flow.result(30)
    for artifact in written:
        assert [found.id for found in await producer.list(artifact=artifact)] == [flow.id]
    assert await pruner_of(producer, Keep(completed_most=0), artifacts=stay).run_once() == 1
    assert len(list(producer.storage.objects())) == (3 if stay else 0)
