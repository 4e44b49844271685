"""Stages with a cache: which call reuses which result, and who computes when several ask at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq import Artifact, FlowHandle, FlowProducer, Node, Unrecoverable, context, pipeline, stage
from flowq.engine.duties.duties import Sweeper
from flowq.errors import DefinitionError, InvalidValue
from flowq.model.event import Event
from flowq.model.keep import Keep
from flowq.model.snapshot import FlowSnapshot, Reused, StageSnapshot
from flowq.pipeline import Stage
from flowq.pipeline.options import StageOptions
from flowq.store.forecasts import _runs
from flowq.store.keys import MEMO, MEMO_MARK, SPARED
from flowq.store.views import Views
from tests.conformance.after_the_end import pruner_of
from tests.conformance.scene import broken, ran
from tests.engine.waiting import in_the_end
from tests.engine.work import Gate, outcome, until, working
from tests.scanned import keys_like

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("only_when_told")]

# By the label of the stage that stops there.
gates: dict[str, Gate] = {}


@pytest.fixture(autouse=True)
def _no_gates() -> None:
    """No stage stops anywhere."""
    gates.clear()


@stage(cache="30d", attempts=2)
async def memo_double(number: int, label: str = "") -> int:
    ran[f"double {number}"] += 1
    context().usage(tokens=10)
    if label in gates:
        await gates[label].stop_async()
    if label in broken:
        broken.discard(label)
        raise Unrecoverable(f"{label} is bad")
    return 2 * number


@stage(cache="30d")
async def memo_write(text: str) -> Artifact:
    ran["write"] += 1
    async with context().new_artifact("text.txt") as sink:
        await sink.write(text.encode())
    return sink.artifact


@stage(cache="30d")
def memo_shout(source: Artifact) -> Artifact:
    ran["shout"] += 1
    with source.local() as path, context().new_artifact("loud.txt") as sink:
        sink.write(path.read_bytes().upper())
    return sink.artifact


@stage
async def memo_fetch(name: str, text: str) -> Artifact:
    ran["fetch"] += 1
    async with context().new_artifact(f"{name}.txt") as sink:
        await sink.write(text.encode())
    return sink.artifact


@stage(cache="30d")
async def memo_long(letter: str) -> str:
    ran["long"] += 1
    return letter * 5_000


@stage
async def memo_length(text: str) -> int:
    return len(text)


@pipeline
def memo_one(number: int, label: str = "") -> int:
    return memo_double(number, label)


@pipeline
def memo_texts(name: str, text: str) -> Artifact:
    return memo_shout(memo_fetch(name, text))


@pipeline
def memo_lengths(letter: str) -> int:
    return memo_length(memo_long(letter))


@pipeline
def memo_many(numbers: list[int]) -> list[int]:
    return memo_double.map(numbers)


def made(fn: Any, **options: Any) -> Stage[..., Any]:
    """A stage as another release has it."""
    return Stage(fn, "memo_released", StageOptions().changed(cache="1h", **options))


async def stage_of(flow: FlowHandle[Any], name: str) -> StageSnapshot:
    return (await flow.inspect()).stage(name)


async def kept(producer: FlowProducer) -> list[str]:
    """The keys of memos. What is kept is written just after the stage has completed."""
    store = producer._open.store
    found: list[str] = []
    for tag in store.partitions:
        found += [key.decode() for key in await keys_like(store, f"{tag}{MEMO}*")]
    return found


async def until_kept(producer: FlowProducer, count: int) -> list[str]:
    async def are_there() -> list[str]:
        found = await kept(producer)
        return found if len(found) >= count else []

    return await in_the_end(are_there)


async def test_the_same_call_in_a_later_flow_is_not_run_again(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        first = await producer.add(memo_one(4))
        assert await first.result(30) == 8
        second = await producer.add(memo_one(4))
        assert await second.result(30) == 8
        other = await producer.add(memo_one(5))
        assert await other.result(30) == 10
    assert ran == {"double 4": 1, "double 5": 1}
    reused, new = await stage_of(second, "memo_double"), await stage_of(other, "memo_double")
    assert reused.reused == Reused(first.id, "memo_double")
    assert (reused.state, reused.runs, reused.attempt, reused.run_seconds, reused.result) == ("completed", 0, 0, None, 8)
    assert (new.reused, new.runs, new.attempt) == (None, 1, 1)


async def test_a_call_with_defaults_is_the_same_as_one_that_says_them(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        assert await (await producer.add(memo_double.flow(3))).result(30) == 6
        assert await (await producer.add(memo_double.flow(number=3, label=""))).result(30) == 6
        assert await (await producer.add(Node("memo_double", data={"number": 3}))).result(30) == 6
        mapping = {"name": "memo_double", "data": {"number": 3}, "options": {"cache": "1h"}}
        assert await (await producer.add(mapping)).result(30) == 6
    assert ran == {"double 3": 1}


async def test_the_event_of_a_reused_stage_names_the_flow_that_computed(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        first = await producer.add(memo_one(4))
        await first.result(30)
        second = await producer.add(memo_one(4))
        await second.result(30)
    events = [event async for event in second.events(0) if isinstance(event, Event) and event.stage]
    assert [(event.verb, event.note) for event in events][-1] == ("completed", f"reused from flow {first.id}")


async def test_what_a_reused_stage_used_is_not_counted_twice(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        first = await producer.add(memo_one(4))
        await first.result(30)
        second = await producer.add(memo_one(4))
        await second.result(30)
    assert (await first.inspect()).usage == {"tokens": 10}
    assert (await second.inspect()).usage == {}
    assert [entry.amounts for entry in await producer.usage()] == [{"tokens": 10}]


async def test_nothing_is_learnt_of_durations_from_a_reused_stage(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        for _ in range(3):
            await (await producer.add(memo_one(4))).result(30)
    store = producer._open.store
    assert len(await _runs(store, Views(store), "memo_one")) == 1


async def test_artifacts_count_by_their_content(producer: FlowProducer) -> None:
    async with working(producer, memo_fetch, memo_shout):
        first = await producer.add(memo_texts("a", "hello"))
        loud = await first.result(30)
        second = await producer.add(memo_texts("b", "hello"))
        assert await second.result(30) == loud
        third = await producer.add(memo_texts("a", "other"))
        with (await third.result(30)).local() as path:
            assert path.read_text() == "OTHER"
        assert ran == {"fetch": 3, "shout": 2}
    reused = await stage_of(second, "memo_shout")
    assert (reused.reused, reused.artifacts) == (Reused(first.id, "memo_shout"), (loud,))


async def test_without_a_checksum_an_artifact_counts_by_its_key(producer: FlowProducer) -> None:
    async with working(producer, memo_fetch, memo_shout):
        source = await (await producer.add(memo_fetch.flow("a", "hi"))).result(30)
        for artifact in (Artifact.existing(source.key), Artifact.existing(source.key), source):
            await (await producer.add(memo_shout.flow(artifact))).result(30)
    assert ran["shout"] == 2


async def test_a_result_whose_object_is_gone_is_computed_again(producer: FlowProducer) -> None:
    async with working(producer, memo_write):
        first = await (await producer.add(memo_write.flow("hello"))).result(30)
        producer.storage.delete(found.key for found in producer.storage.objects())
        second = await producer.add(memo_write.flow("hello"))
        again = await second.result(30)
        assert (ran["write"], again.key != first.key, (await stage_of(second, "memo_write")).reused) == (2, True, None)
        third = await producer.add(memo_write.flow("hello"))
        assert (await third.result(30)).key == again.key


async def test_a_result_that_lies_in_the_storage_is_reused_while_it_is_there(producer: FlowProducer) -> None:
    async with working(producer, memo_long, memo_length):
        for _ in range(2):
            assert await (await producer.add(memo_lengths("x"))).result(30) == 5_000
        assert ran == {"long": 1}
        producer.storage.delete(found.key for found in producer.storage.objects())
        assert await (await producer.add(memo_lengths("x"))).result(30) == 5_000
    assert ran == {"long": 2}


async def test_other_code_or_another_version_computes_anew(producer: FlowProducer) -> None:
    async def old(number: int) -> str:
        return f"old {number}"

    async def new(number: int) -> str:
        return f"new {number}"

    releases = [made(old), made(new), made(old, version="1"), made(old, version="2"), made(old, attempts=3)]
    flows: list[FlowSnapshot] = []
    for release in releases:
        async with working(producer, release):
            flow = await producer.add(release.flow(1))
            await flow.result(30)
            flows.append(await flow.inspect())
    found = [(flow.stage("memo_released").result, flow.stage("memo_released").reused is not None) for flow in flows]
    assert found == [("old 1", False), ("new 1", False), ("old 1", False), ("old 1", False), ("old 1", True)]


async def test_a_result_older_than_the_call_allows_is_not_used(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        await (await producer.add(memo_one(4))).result(30)
        (key,) = await until_kept(producer, 1)
        store = producer._open.store
        lives_ms = await store.connection.command("PTTL", key)
        assert 29 * 86_400_000 < lives_ms <= 30 * 86_400_000
        at = int(await store.connection.command("HGET", key, "at"))
        await store.connection.command("HSET", key, "at", at - 3_600_000)
        assert await (await producer.add(memo_one(4))).result(30) == 8
        hourly = memo_double.with_options(cache="30m")
        assert await (await producer.add(hourly.flow(4))).result(30) == 8
    assert ran == {"double 4": 2}


async def test_without_cache_everything_runs_and_is_kept_anew(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        first = await producer.add(memo_one(4))
        await first.result(30)
        (key,) = await until_kept(producer, 1)
        store = producer._open.store
        before = await store.connection.command("HGET", key, "source")
        second = await producer.add(memo_one(4), cache=False)
        await second.result(30)

        async def is_anew() -> bool:
            return await store.connection.command("HGET", key, "source") != before

        await in_the_end(is_anew)
        third = await producer.add(memo_one(4))
        await third.result(30)
    assert ran == {"double 4": 2}
    assert (await stage_of(third, "memo_double")).reused == Reused(second.id, "memo_double")


async def test_a_call_that_turns_the_cache_off_neither_uses_nor_keeps(producer: FlowProducer) -> None:
    plain = memo_double.with_options(cache=False)
    async with working(producer, memo_double):
        for _ in range(2):
            await (await producer.add(plain.flow(4))).result(30)
        await (await producer.add(Node("memo_double", data={"number": 4}, cache=False))).result(30)
        assert await kept(producer) == []
    assert ran == {"double 4": 3}


async def test_what_somebody_retries_by_hand_runs(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        flow = await producer.add(memo_one(4))
        await flow.result(30)
        await flow.retry(from_stage="memo_double")
        snapshot = await until(flow, lambda snapshot: snapshot.run == 2 and snapshot.is_final)
    assert ran == {"double 4": 2}
    assert (snapshot.stage("memo_double").reused, snapshot.stage("memo_double").runs) == (None, 2)


async def test_items_of_a_map_are_reused_one_by_one(producer: FlowProducer) -> None:
    async with working(producer, memo_double):
        await (await producer.add(memo_one(2))).result(30)
        assert await (await producer.add(memo_many([1, 2, 3, 3]))).result(60) == [2, 4, 6, 6]
        again = await producer.add(memo_many([3, 4]))
        assert await again.result(60) == [6, 8]
    assert ran == {"double 1": 1, "double 2": 1, "double 3": 1, "double 4": 1}


async def test_of_those_who_ask_at_once_one_runs_and_the_others_wait_without_a_slot(producer: FlowProducer) -> None:
    gate = gates["slow"] = Gate()
    async with working(producer, memo_double, concurrency=2):
        first = await producer.add(memo_one(4, "slow"))
        await gate.until_arrived()
        others = [await producer.add(memo_one(4, "slow"), id=f"other-{number}") for number in range(5)]
        for flow in others:
            snapshot = await until(flow, lambda snapshot: snapshot.stage("memo_double").state == "scheduled")
            waiting = snapshot.stage("memo_double")
            assert waiting.reason is not None
            assert (waiting.reason.code, waiting.reason.on) == ("cache_pending", (first.id,))
            assert waiting.reason.sentence == f"flow {first.id} computes the same; waits for it"
            assert (waiting.attempt, waiting.runs) == (0, 0)
        # A worker of two slots, of which one computes and five wait for it, has one to spare.
        assert await (await producer.add(memo_one(5))).result(30) == 10
        gate.opened.set()
        assert await asyncio.wait_for(asyncio.gather(*(flow.result(30) for flow in (first, *others))), 10) == [8] * 6
    assert ran == {"double 4": 1, "double 5": 1}
    for flow in others:
        found = await stage_of(flow, "memo_double")
        assert (found.reused, found.runs, found.attempt) == (Reused(first.id, "memo_double"), 0, 0)


async def test_of_a_crowd_that_asks_at_once_nobody_is_forgotten(producer: FlowProducer) -> None:
    async with working(producer, memo_double), working(producer, memo_double, concurrency=3):
        flows = await producer.add_bulk(memo_one(number % 3) for number in range(90))
        assert [await flow.result(30) for flow in flows] == [2 * (number % 3) for number in range(90)]
    assert ran == {"double 0": 1, "double 1": 1, "double 2": 1}


async def test_if_the_one_that_runs_fails_for_good_the_next_one_runs(producer: FlowProducer) -> None:
    gate = gates["bad"] = Gate()
    broken.add("bad")
    async with working(producer, memo_double):
        first = await producer.add(memo_one(4, "bad"))
        await gate.until_arrived()
        others = [await producer.add(memo_one(4, "bad")) for _ in range(3)]
        for flow in others:
            await until(flow, lambda snapshot: snapshot.stage("memo_double").state == "scheduled")
        gate.opened.set()
        assert "bad is bad" in str(await outcome(first))
        assert await asyncio.wait_for(asyncio.gather(*(flow.result(30) for flow in others)), 30) == [8] * 3
    assert ran == {"double 4": 2}


async def test_if_the_one_that_runs_is_cancelled_the_next_one_runs(producer: FlowProducer) -> None:
    gate = gates["slow"] = Gate()
    async with working(producer, memo_double):
        first = await producer.add(memo_one(4, "slow"))
        await gate.until_arrived()
        second = await producer.add(memo_one(4, "slow"))
        await until(second, lambda snapshot: snapshot.stage("memo_double").state == "scheduled")
        gate.arrived.clear()
        await first.cancel()
        await gate.until_arrived()
        gate.opened.set()
        assert await second.result(30) == 8
    assert ran == {"double 4": 2}


async def test_a_mark_of_a_stage_that_runs_no_more_holds_nobody_up(producer: FlowProducer) -> None:
    gate = gates["slow"] = Gate()
    store = producer._open.store
    async with working(producer, memo_double) as worker:
        first = await producer.add(memo_one(4, "slow"))
        await gate.until_arrived()
        # As after a crash of the whole worker: nobody takes the mark away.
        (mark,) = [key for tag in store.partitions for key in await keys_like(store, f"{tag}{MEMO_MARK}*")]
        left_behind = await store.connection.command("GET", mark)
        stopping = asyncio.create_task(worker.stop())
        await stopping
    assert (await stage_of(first, "memo_double")).state == "ready"
    await store.connection.command("SET", mark, left_behind, "PX", 600_000)
    await producer.pause_queue("nobody")
    await first.pause()
    gate.opened.set()
    async with working(producer, memo_double):
        assert await (await producer.add(memo_one(4, "slow"))).result(30) == 8
        await first.resume()
        assert await first.result(30) == 8
    assert (await stage_of(first, "memo_double")).reused is not None
    assert ran == {"double 4": 2}


async def test_a_result_that_its_process_could_not_keep_is_found_in_its_flow(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, memo_double):
        gate = gates["slow"] = Gate()
        first = await producer.add(memo_one(4, "slow"))
        await gate.until_arrived()
        (mark,) = [key for tag in store.partitions for key in await keys_like(store, f"{tag}{MEMO_MARK}*")]
        held = await store.connection.command("GET", mark)
        gate.opened.set()
        await first.result(30)
        (key,) = await until_kept(producer, 1)
        await store.connection.commands(("UNLINK", key), ("SET", mark, held, "PX", 600_000))
        second = await producer.add(memo_one(4, "slow"))
        await second.result(30)
        assert (await stage_of(second, "memo_double")).reused == Reused(first.id, "memo_double")
        await until_kept(producer, 1)
    assert ran == {"double 4": 1}


async def test_what_a_memo_names_is_neither_swept_nor_removed_with_its_flow(producer: FlowProducer) -> None:
    store, storage = producer._open.store, producer.storage
    pruner = pruner_of(producer, Keep(completed_most=0), artifacts=False)
    async with working(producer, memo_write, memo_fetch):
        first = await producer.add(memo_write.flow("hello"), id="first")
        artifact = await first.result(30)
        await (await producer.add(memo_fetch.flow("a", "b"))).result(30)
        await until_kept(producer, 1)
        await Sweeper(Views(store), lambda: storage, grace_seconds=-1).run_once()
        assert await pruner.run_once() == 2
        assert [found.key for found in storage.objects()] == [artifact.key], "what no memo can name went with its flow"
        second = await producer.add(memo_write.flow("hello"))
        assert await second.result(30) == artifact
        assert (await stage_of(second, "memo_write")).reused == Reused("first", "memo_write")
        await Sweeper(Views(store), lambda: storage, grace_seconds=-1).run_once()
        assert [found.key for found in storage.objects()] == [artifact.key]
    assert ran == {"write": 1, "fetch": 1}


async def test_when_no_memo_can_name_it_any_more_an_artifact_follows_its_flow(producer: FlowProducer) -> None:
    store, storage = producer._open.store, producer.storage
    pruner = pruner_of(producer, Keep(completed_most=0), artifacts=False)
    async with working(producer, memo_write):
        await (await producer.add(memo_write.flow("hello"), id="first")).result(30)
    assert await pruner.run_once() == 1
    spared = store.keys.tag_of("first") + SPARED
    until_ms = int(await store.connection.command("ZSCORE", spared, "first"))
    days = (until_ms - await Views(store).now()) / 86_400_000
    assert 43.9 < days < 44.1, "the thirty days of the cache, and the fourteen for which a flow that used it may be kept"
    await pruner.run_once()
    assert len(list(storage.objects())) == 1
    await store.connection.command("ZADD", spared, 1, "first")
    await pruner.run_once()
    assert list(storage.objects()) == []
    assert await store.connection.command("EXISTS", spared) == 0


async def test_a_damaged_memo_is_no_memo(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, memo_double):
        await (await producer.add(memo_one(4))).result(30)
        (key,) = await until_kept(producer, 1)
        await store.connection.command("HSET", key, "source", "rubbish", "artifacts", "more")
        assert await (await producer.add(memo_one(4))).result(30) == 8
        await store.connection.commands(("UNLINK", key), ("SET", key, "a text", "PX", 60_000))
        await store.connection.command("SET", key.replace(MEMO, MEMO_MARK), "no mark", "PX", 60_000)
        assert await (await producer.add(memo_one(4))).result(30) == 8
        assert await (await producer.add(memo_one(4))).result(30) == 8
    assert ran == {"double 4": 3}


async def test_a_cache_that_makes_no_sense_is_refused(producer: FlowProducer) -> None:
    wrong: Any
    for wrong in (True, "soon", -1, 0):
        with pytest.raises(InvalidValue, match="cache"):
            memo_double.with_options(cache=wrong)
        with pytest.raises(InvalidValue, match="cache"):
            Node("memo_double", cache=wrong)
    for wrong in ("30d", None, 1):
        with pytest.raises(InvalidValue, match="cache"):
            await producer.add(memo_one(1), cache=wrong)
    names: dict[str, Any] = {}
    exec("async def nowhere(number: int) -> int:\n    return number", names)
    with pytest.raises(DefinitionError, match="source"):
        stage(cache="1d")(names["nowhere"])
    assert stage(cache="1d", version="1", name="memo_nowhere")(names["nowhere"]).options.version == "1"
