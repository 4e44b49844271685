"""What becomes of flows that stages spawned, and of hooks, when the flow above them is removed."""

from __future__ import annotations

import asyncio

import pytest

from flowq import Artifact, FlowHandle, FlowProducer, context, pipeline, stage
from flowq.hooks import FlowEnd
from flowq.model.keep import Keep
from flowq.store.keys import SPARED
from flowq.store.store import Store
from flowq.store.views import Views
from tests.conformance.after_the_end import archived, hooks_completed, pruner_of
from tests.conformance.scene import gate
from tests.engine.work import working
from tests.scanned import keys_like

pytestmark = pytest.mark.anyio


async def write(text: str) -> Artifact:
    async with context().new_artifact("text.txt") as sink:
        await sink.write(text.encode())
    return sink.artifact


@stage
async def rb_write(text: str) -> Artifact:
    return await write(text)


@stage(cache="30d")
async def rb_kept(text: str) -> Artifact:
    return await write(text)


@stage
async def rb_held(text: str) -> Artifact:
    await gate.stop_async()
    return await write(text)


@stage
async def rb_after(end: FlowEnd) -> None:
    await context().spawn(rb_write, end.flow_id)
    await write(end.state)


@pipeline(finally_=rb_after)
def rb_below(text: str) -> Artifact:
    return rb_write(text)


@stage
async def rb_parent(texts: list[str]) -> int:
    await asyncio.gather(*(context().spawn(rb_below, text) for text in texts))
    await write("parent")
    return len(texts)


@pipeline(finally_=rb_after)
def rb_above(texts: list[str]) -> int:
    return rb_parent(texts)


@stage
async def rb_caching(text: str) -> None:
    await context().spawn(rb_kept, text)


@stage
async def rb_waiting(text: str) -> None:
    await context().spawn(rb_held, text)


# However young.
NONE = Keep(completed_most=0, cancelled_most=0)
EVERY = (rb_write, rb_kept, rb_held, rb_after, rb_parent, rb_caching, rb_waiting)


async def ended(producer: FlowProducer) -> FlowHandle[int]:
    """A flow with two flows beneath it, and hooks of all three, each with a flow beneath."""
    flow = await producer.add(rb_above(["a", "b"]), id="top")
    assert await flow.result(30) == 2
    for child in (await flow.inspect()).spawned:
        await hooks_completed(producer.flow(child.id))
    await hooks_completed(flow)
    return flow


def shape(flow_id: str) -> str:
    """The id without what is different each time."""
    return "^".join(name.partition(".")[0] for name in flow_id.split("^"))


async def left(store: Store, tag: str) -> list[str]:
    return sorted(key.decode() for key in await keys_like(store, f"{tag}:[ft]:*"))


async def test_what_stages_spawned_and_all_hooks_are_archived_with_their_flow(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        await ended(producer)
    assert await pruner_of(producer, NONE, archive=True).run_once() == 1
    lines = archived(producer)
    assert sorted(map(shape, lines)) == [
        "top",
        "top^end",
        "top^end^rb_after",
        *["top^rb_parent"] * 2,
        *["top^rb_parent^end"] * 2,
        *["top^rb_parent^end^rb_after"] * 2,
    ]
    assert {line["state"] for line in lines.values()} == {"completed"}
    assert all(line["parent"] == name.rpartition("^")[0] for name, line in lines.items() if "^" in name)


async def test_what_stages_spawned_goes_at_once_when_the_flow_is_removed_by_hand(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await ended(producer)
    store = producer._open.store
    assert (await producer.prune(state="completed")).done == 1
    assert await left(store, store.keys.tag_of(flow.id)) == []


@pytest.mark.parametrize("stay", [True, False])
async def test_artifacts_of_what_was_spawned_go_with_the_flow_if_they_are_to(producer: FlowProducer, stay: bool) -> None:
    async with working(producer, *EVERY):
        await ended(producer)
    assert len(list(producer.storage.objects())) == 9
    await pruner_of(producer, NONE, artifacts=stay).run_once()
    assert len(list(producer.storage.objects())) == (9 if stay else 0)


async def test_artifacts_of_a_spawned_flow_that_a_cache_names_stay(producer: FlowProducer) -> None:
    store, storage = producer._open.store, producer.storage
    async with working(producer, *EVERY):
        flow = await producer.add(rb_caching.flow("hello"), id="top")
        await flow.result(30)
        (child,) = (await flow.inspect()).spawned
    pruner = pruner_of(producer, NONE, artifacts=False)
    assert await pruner.run_once() == 1
    assert not await Views(store).exists(child.id)
    (kept,) = storage.objects()
    assert "rb_kept" in kept.key
    spared = store.keys.tag_of("top") + SPARED
    assert await store.connection.command("ZRANGE", spared, 0, -1) == [child.id.encode()]
    await store.connection.command("ZADD", spared, 1, child.id)
    await pruner.run_once()
    assert list(storage.objects()) == []


async def test_what_still_runs_beneath_a_flow_that_is_removed_goes_when_it_has_ended(producer: FlowProducer) -> None:
    store, storage = producer._open.store, producer.storage
    tag = store.keys.tag_of("top")
    pruner = pruner_of(producer, NONE, artifacts=False)
    async with working(producer, *EVERY):
        flow = await producer.add(rb_waiting.flow("a"), id="top")
        await gate.until_arrived()
        (child,) = (await flow.inspect()).spawned
        digest = await store.connection.command("HGET", store.keys.flow("top"), "p")
        await store.connection.command("UNLINK", store.keys.flow("top"))  # it has expired
        await pruner.run_once()
        assert await Views(store).exists(child.id)
        gate.opened.set()
        await producer.flow(child.id).result(30)
    assert digest is not None
    assert len(list(storage.objects())) == 1
    await store.connection.command(
        "ZADD", f"{tag}:trees", "XX", 1, *await store.connection.command("ZRANGE", f"{tag}:trees", 0, -1)
    )
    await pruner.run_once()
    assert not await Views(store).exists(child.id)
    assert list(storage.objects()) == []
