"""Which flows a question finds, in which order, and what stays of them when they are gone."""

from __future__ import annotations

import time
from typing import Any

import pytest

from flowq import Artifact, FlowProducer, Unrecoverable, context, pipeline, stage
from flowq.errors import FlowNotFound, InvalidValue
from flowq.store.keys import BY, PIPELINES
from tests.engine.work import outcome, working
from tests.store.acting import in_one_partition

pytestmark = pytest.mark.anyio


@stage
async def fi_work(text: str) -> str:
    if text.startswith("bad"):
        raise Unrecoverable(f"{text} is bad")
    return text


@stage
async def fi_write(text: str) -> Artifact:
    async with context().new_artifact("text.txt") as sink:
        await sink.write(text.encode())
    return sink.artifact


@pipeline
def fi_one(text: str) -> str:
    return fi_work(text)


@pipeline
def fi_two(text: str) -> str:
    return fi_work(text)


@pipeline
def fi_file(text: str) -> Artifact:
    return fi_write(text)


async def test_flows_are_listed_newest_first_and_page_by_page(producer: FlowProducer) -> None:
    await producer.add_bulk(fi_one(str(n)).with_options(id=f"f{n:03}") for n in range(560))  # many are of one millisecond
    summaries = await producer.list(limit=1_000)
    every = [flow.id for flow in summaries]
    assert sorted(every) == [f"f{n:03}" for n in range(560)]
    assert summaries == sorted(summaries, key=lambda flow: (flow.created_at, flow.id), reverse=True)
    paged: list[str] = []
    while page := await producer.list(limit=70, after=paged[-1] if paged else None):
        paged += [flow.id for flow in page]
    assert paged == every


async def test_what_is_asked_for_together_is_found_together(producer: FlowProducer) -> None:
    await producer.add(fi_one("a"), id="one-a", tenant="acme", tags=["beta", "eu"])
    await producer.add(fi_one("b"), id="one-b", tenant="acme", tags=["eu"])
    await producer.add(fi_two("a"), id="two-a", tenant="umbrella", tags=["beta"])
    await producer.add(fi_two("b"), id="two-b")

    async def ids(**wanted: Any) -> set[str]:
        return {flow.id for flow in await producer.list(**wanted)}

    assert await ids() == {"one-a", "one-b", "two-a", "two-b"}
    assert await ids(pipeline="fi_two") == {"two-a", "two-b"}
    assert await ids(tenant="acme") == {"one-a", "one-b"}
    assert await ids(tag="beta") == {"one-a", "two-a"}
    assert await ids(tag="beta", pipeline="fi_two") == {"two-a"}
    assert await ids(tag="beta", tenant="nobody") == set()
    assert await ids(search="wo-") == {"two-a", "two-b"}
    assert await ids(state="ready", tag="eu") == {"one-a", "one-b"}
    assert await ids(state="completed") == set()


async def test_flows_are_found_by_state_and_by_cause(producer: FlowProducer) -> None:
    async with working(producer, fi_work):
        for text in ("good", "bad 1", "bad 2"):
            await outcome(await producer.add(fi_one(text), id=text.replace(" ", "-")))
    assert [flow.id for flow in await producer.list(state="completed")] == ["good"]
    assert [flow.id for flow in await producer.list(state="failed")] == ["bad-2", "bad-1"]
    (found,) = await producer.list(cause="Unrecoverable: bad 1*")
    assert (found.id, found.cause) == ("bad-1", "Unrecoverable: bad 1 is bad")
    assert (await producer.flow("bad-1").inspect()).cause == "Unrecoverable: bad 1 is bad"
    await producer.flow("bad-1").cancel()
    assert [flow.id for flow in await producer.list(state="failed", after="bad-2")] == ["bad-1"]


async def test_flows_are_found_by_the_time_they_were_added(producer: FlowProducer) -> None:
    flow = await producer.add(fi_one("a"), id="a")
    at = (await flow.inspect()).created_at
    assert len(await producer.list(since_ms=at, until_ms=at)) == 1
    assert await producer.list(since_ms=at + 1) == []
    assert await producer.list(until_ms=at - 1) == []
    assert await producer.list(since_ms=time.time() * 1000 + 60_000) == []


async def test_an_artifact_leads_to_the_flow_that_wrote_it(producer: FlowProducer) -> None:
    async with working(producer, fi_write):
        flow = await producer.add(fi_file("x"), id="https://example.org/a?b")
        artifact = await flow.result(30)
    for known in (
        artifact,
        artifact.key,
        f"s3://bucket/some/prefix/{artifact.key}",
        f"https://host/{artifact.key}?X-Signature=1",
    ):
        assert producer.flow_of(known).id == flow.id
        assert [found.state for found in await producer.list(artifact=known)] == ["completed"]
    assert await producer.list(artifact=artifact, state="failed") == []
    for wrong in ("a/b", "uploads/0123/x.mp4", ""):
        with pytest.raises(InvalidValue, match="artifact key"):
            producer.flow_of(wrong)


async def test_a_flow_that_is_pruned_leaves_all_indexes(producer: FlowProducer) -> None:
    async with working(producer, fi_work):
        for text in ("good", "bad"):
            await outcome(await producer.add(fi_one(text), id=text, tenant="acme", tags=["eu"]))
    store = producer._open.store
    digest = (await store.connection.command("HGET", store.keys.flow("good"), "p")).decode()
    for flow_id in ("good", "bad"):
        await store.prune(store.keys.tag_of(flow_id), int(time.time() * 1000) + 60_000, [(digest + flow_id).encode()])
    assert await producer.list() == []
    for tag in store.partitions:
        labels = ("pipeline:fi_one", "tenant:acme", "tag:eu")
        assert (
            await store.connection.commands(*(("EXISTS", tag + BY + label) for label in labels), ("EXISTS", tag + PIPELINES))
            == [0] * 4
        )
    with pytest.raises(FlowNotFound):
        await producer.list(after="good")


async def test_what_expired_without_being_pruned_leaves_the_indexes_with_those_that_are(producer: FlowProducer) -> None:
    store = producer._open.store
    ids = in_one_partition(store, 9)
    async with working(producer, fi_work):
        for flow_id in ids:
            await outcome(await producer.add(fi_one(flow_id), id=flow_id, tags=["eu"]))
    tag, digest = store.partitions[0], (await store.connection.command("HGET", store.keys.flow(ids[0]), "p")).decode()
    await store.connection.command("UNLINK", *(store.keys.flow(flow_id) for flow_id in ids[:6]))
    assert await store.prune(tag, int(time.time() * 1000) + 60_000, [(digest + flow_id).encode() for flow_id in ids[6:]]) == 3
    assert await store.connection.commands(("EXISTS", tag + BY + "tag:eu"), ("EXISTS", tag + BY + "pipeline:fi_one")) == [0, 0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"state": "done"}, {"limit": 0}, {"since_ms": "yesterday"}, {"until_ms": True}, {"pipeline": "a b"}, {"tag": "a b"},
        {"tenant": 7}, {"search": ""}, {"cause": 3}, {"after": "a b"},
    ],
)  # fmt: skip
async def test_a_question_that_makes_no_sense_is_refused(producer: FlowProducer, wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue):
        await producer.list(**wrong)
