"""How long ended flows are kept, how many of them, and what becomes of what they left."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import Artifact, FlowProducer, Unrecoverable, context, pipeline, stage
from flowq.engine.duties.duties import Pruner
from flowq.engine.duties.removal import Remover
from flowq.errors import InvalidValue, StorageNotConfigured
from flowq.model.keep import Keep
from flowq.settings import KeepSettings
from flowq.store.feed import Feed
from flowq.store.retentions import Retention
from flowq.store.views import Views
from tests.conformance.after_the_end import archived, pruner_of
from tests.engine.waiting import in_the_end
from tests.engine.work import outcome, working
from tests.store.acting import in_one_partition

pytestmark = pytest.mark.anyio

AT_ONCE = Retention(-1_000, -1_000, -1_000)
DAY_MS = 86_400_000


@stage
async def re_work(text: str) -> str:
    if text == "bad":
        raise Unrecoverable("bad")
    return text


@stage
async def re_write(text: str) -> Artifact:
    async with context().new_artifact("text.txt") as sink:
        await sink.write(text.encode())
    return sink.artifact


@pipeline
def re_usual(text: str) -> str:
    return re_work(text)


@pipeline(keep={"completed": "30d", "failed": "30d", "cancelled": "30d"})
def re_long(text: str) -> str:
    return re_work(text)


@pipeline(keep={"completed": 0, "failed": 0})
def re_short(text: str) -> str:
    return re_work(text)


@pipeline(keep={"completed_most": 2, "failed_most": 1})
def re_few(text: str) -> str:
    return re_work(text)


@pipeline
def re_file(text: str) -> Artifact:
    return re_write(text)


async def ids(producer: FlowProducer, **wanted: Any) -> set[str]:
    """The ids of the flows that are left."""
    return {flow.id for flow in await producer.list(**wanted)}


async def test_a_pipeline_may_keep_its_flows_longer_than_others(producer: FlowProducer) -> None:
    async with working(producer, re_work):
        for make, name in ((re_usual, "usual"), (re_long, "long")):
            for text in ("good", "bad"):
                await outcome(await producer.add(make(text), id=f"{name}-{text}"))
    store = producer._open.store
    for flow_id, days in (("usual-good", 3), ("usual-bad", 14), ("long-good", 30), ("long-bad", 30)):
        left = await store.connection.command("PTTL", store.keys.flow(flow_id))
        assert days * DAY_MS < left <= (days + 1) * DAY_MS, "should nobody prune, it expires a day later by itself"
    store.retention = AT_ONCE
    await pruner_of(producer).run_once()
    assert await ids(producer, state="failed") == {"long-bad"}
    assert "long-good" in await ids(producer)


async def test_a_cancelled_flow_is_kept_as_long_as_its_pipeline_says(producer: FlowProducer) -> None:
    flow = await producer.add(re_long("x"), id="long")
    producer._open.store._plans.clear()
    await flow.cancel()
    left = await producer._open.store.connection.command("PTTL", producer._open.store.keys.flow("long"))
    assert left > 30 * DAY_MS


async def test_a_pipeline_may_keep_its_flows_shorter_than_others(producer: FlowProducer) -> None:
    async with working(producer, re_work):
        for text in ("good", "bad"):
            await outcome(await producer.add(re_short(text), id=text))
        await outcome(await producer.add(re_usual("x"), id="usual"))
    store = producer._open.store
    live = await producer.add(re_short("later"), id="live")
    await store.connection.command("PING")

    async def are_pruned() -> bool:
        """Not at once: a flow that ended in this very millisecond is not older than none. Its worker may have pruned one."""
        await pruner_of(producer).run_once()
        return await ids(producer) == {"usual", live.id}

    await in_the_end(are_pruned)


async def test_failures_that_are_kept_do_not_hide_younger_ones_from_the_pruner(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flowq.store.outlived._PAGE", 2)
    monkeypatch.setattr("flowq.store.outlived._PAGES_MAX", 1)
    store = producer._open.store
    names = in_one_partition(store, 6)
    async with working(producer, re_work):
        for number, name in enumerate(names):
            await outcome(await producer.add((re_long if number < 5 else re_usual)("bad"), id=name))
    store.retention = AT_ONCE
    pruner = Pruner(store, Views(store))
    for _ in range(3):
        await pruner.run_once()
    assert await ids(producer) == set(names[:5])


async def test_of_a_pipeline_only_the_newest_flows_are_kept_for_each_outcome(producer: FlowProducer) -> None:
    store = producer._open.store
    names = in_one_partition(store, 8)
    texts = ["good", "good", "good", "bad", "bad", "good", "bad", "good"]
    async with working(producer, re_work):
        for name, text in zip(names, texts, strict=True):
            flow = await producer.add(re_few(text), id=name)
            await outcome(flow)
    await producer.add(re_few("waits"), id="live")
    await pruner_of(producer).run_once()
    share = 2 if len(store.partitions) == 1 else 1  # with several partitions each has its share
    completed = [name for name, text in zip(names, texts, strict=True) if text == "good"][-share:]
    assert await ids(producer) == {*completed, names[6], "live"}


async def test_the_namespace_may_bound_how_many_are_kept_of_each_pipeline(producer: FlowProducer) -> None:
    store = producer._open.store
    names = in_one_partition(store, 4)
    async with working(producer, re_work):
        for name in names:
            await outcome(await producer.add(re_usual("good"), id=name))
    assert await pruner_of(producer, Keep(completed_most=1)).run_once() == 3
    assert await ids(producer) == {names[3]}


async def test_flows_are_archived_before_they_are_removed(producer: FlowProducer) -> None:
    async with working(producer, re_work, re_write):
        for text in ("good", "bad"):
            await outcome(await producer.add(re_usual(text), id=text, tags=["eu"]))
    producer._open.store.retention = AT_ONCE
    await pruner_of(producer, Keep(completed_most=0), archive=True).run_once()
    assert await ids(producer) == set()
    found = archived(producer)
    assert set(found) == {"good", "bad"}
    assert (found["good"]["state"], found["good"]["result"], found["good"]["tags"]) == ("completed", "good", ["eu"])
    assert found["bad"]["graph"][0]["failure"]["error_type"] == "Unrecoverable"
    assert found["bad"]["created_at"].endswith("Z")


async def test_what_can_not_be_archived_is_not_removed(producer: FlowProducer) -> None:
    async with working(producer, re_work):
        await outcome(await producer.add(re_usual("bad"), id="bad"))
    store = producer._open.store
    store.retention = AT_ONCE
    pruner = Pruner(store, Views(store), Remover(store, lambda: None, KeepSettings(archive=True)))
    with pytest.raises(StorageNotConfigured):
        await pruner.run_once()
    assert await ids(producer) == {"bad"}


@pytest.mark.parametrize("stay", [True, False])
async def test_artifacts_outlive_their_flow_unless_they_are_to_go_with_it(producer: FlowProducer, stay: bool) -> None:
    async with working(producer, re_write):
        for name in ("https://example.org/a", "b"):
            await (await producer.add(re_file(name), id=name)).result(30)
    assert len(list(producer.storage.objects())) == 2
    assert await pruner_of(producer, Keep(completed_most=0), artifacts=stay).run_once() == 2
    assert len(list(producer.storage.objects())) == (2 if stay else 0)


async def test_flows_are_removed_by_hand(producer: FlowProducer) -> None:
    async with working(producer, re_work):
        for text in ("good", "bad"):
            await outcome(await producer.add(re_usual(text), id=text))
    await producer.add(re_usual("x"), id="live")
    assert (await producer.prune(older_than="1h")).matched == 0
    assert (await producer.prune(state="failed", dry_run=True)).matched == 1
    assert (await producer.prune(state="failed")).done == 1
    assert await ids(producer) == {"good", "live"}
    assert (await producer.prune(pipeline="re_usual")).done == 1
    assert await ids(producer) == {"live"}


@pytest.mark.parametrize(
    "wrong", [{"complete": "1d"}, {"failed": "soon"}, {"failed_most": -1}, {"failed_most": "3"}, {"completed_most": True}, "3d"]
)
def test_a_retention_that_makes_no_sense_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidValue, match="keep"):

        @pipeline(keep=wrong)
        def re_wrong(text: str) -> str:
            return re_work(text)


async def test_the_last_event_of_a_flow_says_that_it_was_removed(producer: FlowProducer) -> None:
    flow = await producer.add(re_usual("a"))
    other = await producer.add(re_usual("b"))
    await flow.cancel()
    seq = (await flow.inspect()).seq
    store = producer._open.store
    feed = Feed(store.connection, store.keys)
    assert (await producer.prune(state="cancelled")).done == 1
    assert (await producer.prune(state="cancelled")).done == 0
    assert [(event.verb, event.seq, event.stage) for event in await feed.past(flow.id, seq, 0)] == [("pruned", seq + 1, -1)]
    assert [event.verb for event in await feed.past(other.id, 0, 0)] == ["added"]
