"""`stage.map(…)`: a stage that runs once for each element of a list that may be known only when another stage has completed."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from flowq import Artifact, Backoff, FlowProducer, StageFailure, Unrecoverable, context, pipeline, stage, succeeded, tolerate
from flowq.errors import FlowCancelled, FlowFailed, InvalidValue, StageNotFound
from tests.conformance.scene import broken, gate, most, now, ran, using
from tests.engine.work import told, until, working

pytestmark = pytest.mark.anyio


class Cut(msgspec.Struct):
    chunks: list[int]
    seconds: float = 1.5


@stage
async def cm_numbers(count: int) -> list[int]:
    ran["cm_numbers"] += 1
    return list(range(count))


@stage
async def cm_cut(count: int) -> Cut:
    return Cut(list(range(count)))


@stage
async def cm_encode(chunk: int, factor: int = 1, title: str = "") -> int:
    ran[context().stage] += 1
    if chunk in broken:
        raise Unrecoverable(f"chunk {chunk} is broken")
    return chunk * factor + len(title)


@stage(attempts=3, backoff=Backoff.none())
async def cm_flaky(chunk: int) -> int:
    ran[context().stage] += 1
    if context().attempt < 3 and chunk % 2:
        raise RuntimeError("not yet")
    return context().attempt


@stage
async def cm_held(chunk: int) -> int:
    """Those with an odd chunk wait at the gate."""
    ran[context().stage] += 1
    with using(items=1):
        if chunk % 2:
            await gate.stop_async()
        return chunk


@stage
async def cm_three_meet(chunk: int) -> int:
    with using(items=1):
        if now["items"] == 3:
            gate.opened.set()
        await gate.stop_async()
    return chunk


@stage(timeout=0.05)
async def cm_slow(chunk: int) -> int:
    if chunk == 1:
        await asyncio.Event().wait()
    return chunk


@stage
async def cm_large(chunk: int) -> str:
    return str(chunk) * 5_000


@stage
async def cm_written(chunk: int) -> Artifact:
    async with context().new_artifact("part.txt") as sink:
        await sink.write(str(chunk).encode())
    return sink.artifact


@stage
async def cm_join(parts: list[int]) -> list[int]:
    ran["cm_join"] += 1
    return parts


@stage
async def cm_lengths(parts: list[str]) -> list[int]:
    return [len(part) for part in parts]


@stage
async def cm_either(parts: list[int] | StageFailure) -> str:
    return f"{parts.stage}: {parts.message}" if isinstance(parts, StageFailure) else "all"


@stage
async def cm_is_wanted(wanted: bool) -> bool:
    return wanted


@pipeline
def cm_mapped(count: int, factor: int = 10) -> list[int]:
    return cm_join(cm_encode.map(cm_numbers(count), factor=factor))


@pipeline
def cm_plain(chunks: list[int]) -> list[int]:
    return cm_encode.map(chunks, 2)


@pipeline
def cm_mixed(number: int) -> list[int]:
    return cm_encode.map([number, cm_encode(7), number + 1])


@pipeline
def cm_field(count: int) -> list[int]:
    return cm_encode.map(cm_cut(count).chunks, title="four")


@pipeline
def cm_shared(count: int) -> list[int]:
    return cm_encode.map(cm_numbers(count), factor=cm_encode(5))


@pipeline
def cm_twice(count: int) -> list[int]:
    return cm_encode.with_options(name="second").map(cm_encode.map(cm_numbers(count), 10), 10)


@pipeline
def cm_bounded(count: int) -> list[int]:
    return cm_three_meet.with_options(at_once=3).map(cm_numbers(count))


@pipeline
def cm_any(chunks: list[int]) -> list[int]:
    return cm_join(cm_held.with_options(need="any").map(chunks))


@pipeline
def cm_three(chunks: list[int]) -> list[int]:
    return cm_join(cm_encode.with_options(need=3).map(chunks))


@pipeline(fail_fast=True)
def cm_fast(chunks: list[int]) -> list[int]:
    return cm_join(cm_mixed_work.map(chunks))


@stage
async def cm_mixed_work(chunk: int) -> int:
    ran[context().stage] += 1
    if chunk in broken:
        await asyncio.to_thread(gate.arrived.wait, 30)
        raise Unrecoverable("broken")
    await gate.stop_async()
    return chunk


@pipeline
def cm_succeeded(count: int) -> list[int]:
    return cm_join(succeeded(cm_encode.map(cm_numbers(count))))


@pipeline
def cm_succeeded_as_result(count: int) -> list[int]:
    return succeeded(cm_encode.map(cm_numbers(count)))


@pipeline
def cm_tolerated(count: int) -> str:
    return cm_either(tolerate(cm_encode.map(cm_numbers(count))))


@pipeline
def cm_conditional(wanted: bool) -> list[int | None]:
    return cm_encode.when(cm_is_wanted(wanted)).map([1, 2])


@pipeline
def cm_timed(chunks: list[int]) -> list[int]:
    return cm_slow.map(chunks)


@pipeline
def cm_spilled(count: int) -> list[int]:
    return cm_lengths(cm_large.map(cm_numbers(count)))


@pipeline
def cm_artifacts(count: int) -> list[Artifact]:
    return cm_written.map(cm_numbers(count))


@pipeline
def cm_of_anything(value: int) -> list[int]:
    return cm_encode.map(cm_anything(value))  # type: ignore[arg-type]


@stage
async def cm_anything(value: int):  # type: ignore[no-untyped-def]
    return {"no": "list"}


@pipeline
def cm_held_map(chunks: list[int]) -> list[int]:
    return cm_join(cm_held.map(chunks))


EVERY = (
    cm_numbers, cm_cut, cm_encode, cm_flaky, cm_held, cm_three_meet, cm_slow, cm_large, cm_written, cm_join, cm_lengths,
    cm_either, cm_is_wanted, cm_anything, cm_mixed_work,
)  # fmt: skip


async def test_a_stage_runs_for_each_element_of_a_list_that_another_made(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_mapped(12))
        assert await flow.result(30) == [number * 10 for number in range(12)]
    assert ran == {"cm_numbers": 1, "cm_join": 1} | {f"cm_encode[{number}]": 1 for number in range(12)}
    snapshot = await flow.inspect()
    encode = snapshot.stage("cm_encode")
    assert (snapshot.state, snapshot.stages, snapshot.done, snapshot.progress) == ("completed", 3, 3, 1.0)
    assert encode.state == "completed"
    assert encode.items is not None
    assert (encode.items.count, encode.items.completed, encode.items.failed) == (12, 12, 0)


async def test_the_list_may_be_a_value_or_hold_results_or_be_part_of_one(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cm_plain([3, 1, 2]))).result(30) == [6, 2, 4]
        assert await (await producer.add(cm_mixed(1))).result(30) == [1, 7, 2]
        assert await (await producer.add(cm_field(3))).result(30) == [4, 5, 6]


async def test_items_share_the_other_arguments_also_those_that_are_results(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cm_shared(4))).result(30) == [0, 5, 10, 15]


async def test_a_map_may_take_the_results_of_another(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cm_twice(30))).result(30) == [number * 100 for number in range(30)]


async def test_an_empty_list_completes_at_once_with_an_empty_list(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_mapped(0))
        assert await flow.result(30) == []
    assert "suspended cm_encode" not in await told(flow)
    assert await flow.items("cm_encode") == ()


async def test_items_of_a_stage_that_is_no_map_are_refused(producer: FlowProducer) -> None:
    flow = await producer.add(cm_mapped(1))
    assert await flow.items("cm_encode") == (), "its list is not known yet"
    with pytest.raises(InvalidValue, match="stage is 'cm_numbers'; expected a map"):
        await flow.items("cm_numbers")


async def test_a_list_longer_than_a_page_keeps_its_order(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=200):
        assert await (await producer.add(cm_mapped(2_300, 1))).result(60) == list(range(2_300))


async def test_no_more_items_run_at_once_than_was_said(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=20):
        assert await (await producer.add(cm_bounded(40))).result(30) == list(range(40))
    assert most["items"] == 3


async def test_each_item_has_attempts_of_its_own(producer: FlowProducer) -> None:
    @pipeline
    def cm_retried(count: int) -> list[int]:
        return cm_flaky.map(cm_numbers(count))

    async with working(producer, *EVERY):
        flow = await producer.add(cm_retried(4))
        assert await flow.result(30) == [1, 3, 1, 3]
    (item,) = await flow.items("cm_flaky", 1, 1)
    assert (item.name, item.state, item.attempt, [run.outcome for run in item.history]) == (
        "cm_flaky[1]", "completed", 3, ["retried", "retried"],
    )  # fmt: skip


async def test_events_name_the_items(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_plain([1]))
        await flow.result(30)
    assert await told(flow) == [
        "added", "claimed cm_encode", "suspended cm_encode", "claimed cm_encode[0]", "completed cm_encode[0]",
        "completed cm_encode", "completed",
    ]  # fmt: skip


async def test_one_failed_item_fails_the_map_when_the_others_have_ended_and_is_named(producer: FlowProducer) -> None:
    broken.update({2, 5})
    async with working(producer, *EVERY, concurrency=1):
        flow = await producer.add(cm_mapped(8))
        with pytest.raises(FlowFailed, match="chunk 2 is broken") as failure:
            await flow.result(30)
    assert failure.value.stage == "cm_encode[2]"
    snapshot = await flow.inspect()
    encode = snapshot.stage("cm_encode")
    assert encode.items is not None
    assert encode.failure is not None
    assert (encode.state, encode.failure.message) == ("failed", "cm_encode[2]: chunk 2 is broken")
    assert (encode.items.completed, encode.items.failed, encode.items.waiting) == (6, 2, 0)
    assert [item.name for item in encode.items.listed] == ["cm_encode[2]", "cm_encode[5]"]
    assert snapshot.root_cause == "cm_encode[2]"
    assert snapshot.stage("cm_join").state == "blocked"


async def test_a_retry_runs_only_the_items_that_failed(producer: FlowProducer) -> None:
    broken.update({2, 5})
    async with working(producer, *EVERY):
        flow = await producer.add(cm_mapped(8))
        with pytest.raises(FlowFailed):
            await flow.result(30)
        ran.clear()
        broken.discard(2)
        assert await flow.retry() == 2
        with pytest.raises(FlowFailed, match="chunk 5"):
            await flow.result(30)
        broken.clear()
        assert await flow.retry() == 1
        assert await flow.result(30) == [number * 10 for number in range(8)]
    assert ran == {"cm_encode[2]": 1, "cm_encode[5]": 2, "cm_join": 1}
    snapshot = await flow.inspect()
    assert (snapshot.state, snapshot.done, snapshot.stage("cm_encode").failure) == ("completed", 3, None)
    (item,) = await flow.items("cm_encode", 5, 1)
    assert [run.outcome for run in item.history] == ["failed", "failed"]


async def test_a_retry_with_a_bound_passes_over_what_has_completed(producer: FlowProducer) -> None:
    @pipeline
    def cm_bounded_and_broken(count: int) -> list[int]:
        return cm_encode.with_options(at_once=2).map(cm_numbers(count))

    broken.update({3, 1_100})
    async with working(producer, *EVERY, concurrency=100):
        flow = await producer.add(cm_bounded_and_broken(1_200))
        with pytest.raises(FlowFailed):
            await flow.result(60)
        ran.clear()
        broken.clear()
        assert await flow.retry() == 2
        assert await flow.result(60) == list(range(1_200))
    assert ran == {"cm_encode[3]": 1, "cm_encode[1100]": 1}


async def test_a_map_runs_again_whole_when_it_is_named_and_earlier_results_stay(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_mapped(3))
        assert await flow.result(30) == [0, 10, 20]
        assert await flow.retry(from_stage="cm_encode", overrides={"factor": 7}) == 2
        assert await flow.result(30) == [0, 7, 14]
        assert await flow.retry(from_stage="cm_numbers", overrides={"count": 5}) == 3
        assert await flow.result(30) == [0, 7, 14, 21, 28]
        assert [await flow.result(run=run) for run in (1, 2)] == [[0, 10, 20], [0, 7, 14]]
    assert (ran["cm_encode[0]"], ran["cm_encode[4]"], ran["cm_numbers"]) == (3, 1, 2)


async def test_the_results_of_a_map_that_is_the_flows_own_stay_for_each_run(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_plain([1, 2, 3]))
        assert await flow.result(30) == [2, 4, 6]
        assert await flow.retry(from_stage="cm_encode", overrides={"chunk": [5]}) == 1
        assert await flow.result(30) == [10]
        assert await flow.retry(from_stage="cm_encode", overrides={"chunk": [], "factor": 3}) == 1
        assert await flow.result(30) == []
        assert [await flow.result(run=run) for run in (1, 2)] == [[2, 4, 6], [10]]


async def test_a_single_item_runs_again_when_it_is_named(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_plain([1, 2, 3]))
        assert await flow.result(30) == [2, 4, 6]
        assert await flow.retry(from_stage="cm_encode[1]", overrides={"chunk": 50}) == 1
        assert await flow.result(30) == [2, 100, 6]
        assert await flow.result(run=1) == [2, 4, 6]
        with pytest.raises(StageNotFound):
            await flow.retry(from_stage="cm_encode[3]")
    assert ran == {"cm_encode[0]": 1, "cm_encode[1]": 2, "cm_encode[2]": 1}


async def test_succeeded_leaves_out_the_items_that_failed_in_each_run(producer: FlowProducer) -> None:
    broken.update({0, 3})
    async with working(producer, *EVERY):
        flow = await producer.add(cm_succeeded(5))
        assert await flow.result(30) == [1, 2, 4]
        snapshot = await flow.inspect()
        assert snapshot.state == "completed"
        assert (snapshot.stage("cm_encode").state, snapshot.stage("cm_encode").is_tolerated) == ("failed", True)
        own = await producer.add(cm_succeeded_as_result(5))
        assert await own.result(30) == [1, 2, 4]
        broken.clear()
        assert await own.retry() == 2
        assert await own.result(30) == [0, 1, 2, 3, 4]
        assert await own.result(run=1) == [1, 2, 4]
        assert await own.retry(from_stage="cm_encode") == 1
        assert await own.result(30) == [0, 1, 2, 3, 4]
        assert [await own.result(run=run) for run in (1, 2)] == [[1, 2, 4], [0, 1, 2, 3, 4]]


async def test_succeeded_gives_an_empty_list_where_all_items_failed(producer: FlowProducer) -> None:
    broken.update(range(3))
    async with working(producer, *EVERY):
        assert await (await producer.add(cm_succeeded(3))).result(30) == []


async def test_tolerate_gives_the_list_or_the_failure_of_the_first_item(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cm_tolerated(3))).result(30) == "all"
        broken.add(1)
        flow = await producer.add(cm_tolerated(4))
        assert await flow.result(30) == "cm_encode[1]: chunk 1 is broken"


async def test_a_map_completes_when_enough_of_its_items_have_and_the_others_are_stopped(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=3):
        flow = await producer.add(cm_any([1, 3, 2, 5, 7, 9, 11]))
        assert await flow.result(30) == [2]
        snapshot = await until(flow, lambda _: now["items"] == 0)
    assert not gate.opened.is_set()
    assert snapshot.stage("cm_held").state == "completed"
    states = [item.state for item in await flow.items("cm_held")]
    assert (states[2], set(states[:2] + states[3:])) == ("completed", {"cancelled"})
    assert ran["cm_held[6]"] == 0


async def test_items_may_fail_as_long_as_enough_complete(producer: FlowProducer) -> None:
    broken.update({1, 2})
    async with working(producer, *EVERY):
        assert await (await producer.add(cm_three([1, 2, 3, 4, 5]))).result(30) == [3, 4, 5]
        flow = await producer.add(cm_three([1, 2, 3, 4]))
        with pytest.raises(FlowFailed, match="broken"):
            await flow.result(30)
        broken.discard(2)
        assert await flow.retry() == 2
        assert await flow.result(30) == [2, 3, 4]


async def test_an_item_that_failed_in_an_earlier_run_and_is_not_needed_in_this_one_is_cancelled(producer: FlowProducer) -> None:
    broken.update({1, 2})
    async with working(producer, *EVERY):
        flow = await producer.add(cm_three([1, 2, 3, 4]))
        with pytest.raises(FlowFailed, match="broken"):
            await flow.result(30)
    broken.clear()
    assert await flow.retry() == 2
    async with working(producer, *EVERY, concurrency=1):
        assert await flow.result(30) == [1, 3, 4]
    assert [item.state for item in await flow.items("cm_encode")] == ["completed", "cancelled", "completed", "completed"]


@pytest.mark.parametrize("elements", [[1, 2], []])
async def test_a_list_shorter_than_what_is_needed_fails_the_map(producer: FlowProducer, elements: list[int]) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_three(elements))
        with pytest.raises(FlowFailed, match="need of cm_encode") as failure:
            await flow.result(30)
    assert failure.value.stage == "cm_encode"


async def test_a_result_that_is_no_list_fails_the_map(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        with pytest.raises(FlowFailed, match="a list, of which each element"):
            await (await producer.add(cm_of_anything(1))).result(30)


async def test_where_a_flow_fails_at_once_the_first_failed_item_ends_it(producer: FlowProducer) -> None:
    broken.add(0)
    async with working(producer, *EVERY, concurrency=3):
        flow = await producer.add(cm_fast([1, 0, 2, 3, 4, 5]))
        with pytest.raises(FlowFailed) as failure:
            await flow.result(30)
        assert failure.value.stage == "cm_mixed_work[1]"
        await until(flow, lambda snapshot: snapshot.is_final)
    states = [item.state for item in await flow.items("cm_mixed_work")]
    assert states == ["cancelled", "failed", "cancelled", "cancelled", "cancelled", "cancelled"]
    assert ran["cm_mixed_work[5]"] == 0


async def test_a_cancelled_map_stops_and_goes_on_when_it_is_retried(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, concurrency=4):
        flow = await producer.add(cm_held_map([0, 2, 1, 3, 5, 7, 9]))
        await until(flow, lambda snapshot: (items := snapshot.stage("cm_held").items) is not None and items.running == 4)
        assert await flow.cancel("enough")
        with pytest.raises(FlowCancelled):
            await flow.result(30)
        await until(flow, lambda _: now["items"] == 0)
        states = [item.state for item in await flow.items("cm_held")]
        assert states == ["completed"] * 2 + ["cancelled"] * 5
        ran.clear()
        gate.opened.set()
        assert await flow.retry() == 6  # cm_join was cancelled too
        assert await flow.result(30) == [0, 2, 1, 3, 5, 7, 9]
    assert ran == {f"cm_held[{number}]": 1 for number in range(2, 7)} | {"cm_join": 1}


async def test_an_item_that_runs_too_long_times_out_and_its_map_does_not(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_timed([0, 1, 2]))
        with pytest.raises(FlowFailed, match="longer than") as failure:
            await flow.result(30)
    assert failure.value.stage == "cm_slow[1]"


async def test_large_results_of_items_go_to_storage(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        assert await (await producer.add(cm_spilled(20))).result(30) == [5_000] * 10 + [10_000] * 10


async def test_items_write_artifacts_of_their_own(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_artifacts(3))
        parts = await flow.result(30)
        assert [await asyncio.to_thread(_text, part) for part in parts] == ["0", "1", "2"]
        assert (await flow.artifact("cm_written[2]")).key == parts[2].key


def _text(part: Artifact) -> str:
    with part.open() as stream:
        return stream.read().decode()


@pytest.mark.parametrize("wanted", [True, False])
async def test_a_map_whose_condition_does_not_hold_gives_an_empty_list(producer: FlowProducer, wanted: bool) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(cm_conditional(wanted))
        assert await flow.result(30) == ([1, 2] if wanted else [])
    assert (await flow.inspect()).stage("cm_encode").state == ("completed" if wanted else "skipped")


async def test_a_map_says_what_it_waits_for_and_so_do_its_items(producer: FlowProducer) -> None:
    @pipeline
    def cm_two_at_once(chunks: list[int]) -> list[int]:
        return cm_held.with_options(at_once=2).map(chunks)

    async with working(producer, *EVERY, concurrency=10):
        flow = await producer.add(cm_two_at_once([0, 1, 3, 5]))
        snapshot = await until(
            flow, lambda now: (items := now.stage("cm_held").items) is not None and (items.completed, items.running) == (1, 2)
        )
        held = snapshot.stage("cm_held")
        assert (snapshot.state, held.state, held.progress, snapshot.progress) == ("running", "suspended", 0.25, 0.25)
        assert held.reason is not None
        assert (held.reason.code, held.reason.sentence) == ("items", "waits for 2 running and 1 waiting of 4")
        items = await flow.items("cm_held")
        assert [item.state for item in items] == ["completed", "running", "running", "ready"]
        assert items[3].reason is not None
        assert (items[3].reason.code, items[3].reason.sentence) == ("at_once", "at most 2 of its items run at once")
        assert len((await flow.inspect(items=True)).stage("cm_held").items.listed) == 4  # type: ignore[union-attr]
        gate.opened.set()
        await flow.result(30)
