"""A flow that is removed in the very moment in which somebody looks at it, or begins a stage of it: it is gone, not damaged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, Worker, pipeline, stage
from flowq.errors import FlowCancelled, FlowNotFound
from flowq.store.store import Store
from flowq.store.stored_plan import StoredPlan
from flowq.store.views import Views
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio


@stage
async def rm_work(text: str) -> str:
    return text


@pipeline
def rm_flow(text: str) -> str:
    return rm_work(text)


@pytest.fixture
async def remove(producer: FlowProducer) -> Callable[[str], Awaitable[None]]:
    """Cancels a flow, unless it has ended, and prunes it."""
    store = producer._open.store

    async def removed(flow_id: str) -> None:
        digest = await store.connection.command("HGET", store.keys.flow(flow_id), "p")
        await store.cancel(flow_id, "", 1)
        assert await store.prune(store.keys.tag_of(flow_id), await Views(store).now() + 1_000, [digest + flow_id.encode()]) == 1

    return removed


async def inspected(flow: FlowHandle[str]) -> object:
    return await flow.inspect()


async def returned(flow: FlowHandle[str]) -> object:
    return await flow.result(30)


async def written(flow: FlowHandle[str]) -> object:
    return await flow.logs()


def _remove_when_its_plan_is_looked_for(
    producer: FlowProducer, remove: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = Store.plan
    producer._open.store._plans.clear()

    async def late(self: Store, flow_id: str, digest: str) -> StoredPlan:
        monkeypatch.undo()
        await remove(flow_id)
        return await plan(self, flow_id, digest)

    monkeypatch.setattr(Store, "plan", late)


@pytest.mark.parametrize("read", [inspected, returned, written])
async def test_a_flow_that_is_removed_while_its_plan_is_looked_for_is_not_said_to_be_damaged(
    producer: FlowProducer, remove: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch, read: Callable[..., Any]
) -> None:
    async with working(producer, rm_work):
        flow = await producer.add(rm_flow("x"))
        assert await outcome(flow) == "x"
    _remove_when_its_plan_is_looked_for(producer, remove, monkeypatch)
    with pytest.raises(FlowNotFound):
        await read(flow)


async def test_a_flow_that_is_removed_while_its_result_is_read_is_not_said_to_be_damaged(
    producer: FlowProducer, remove: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(producer, rm_work):
        flow = await producer.add(rm_flow("x"))
        assert await outcome(flow) == "x"
    results = Store.results

    async def late(self: Store, flow_id: str, indexes: Iterable[int]) -> dict[int, bytes]:
        monkeypatch.undo()
        await remove(flow_id)
        return await results(self, flow_id, indexes)

    monkeypatch.setattr(Store, "results", late)
    with pytest.raises(FlowNotFound):
        await flow.result(30)


async def test_a_release_is_held_against_the_flows_that_are_left(
    producer: FlowProducer, remove: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    await producer.add(rm_flow("x"))
    _remove_when_its_plan_is_looked_for(producer, remove, monkeypatch)
    assert (await producer.check(stages=[rm_work])).flows == 0


async def test_a_worker_goes_on_after_a_flow_of_which_it_was_about_to_begin_a_stage_is_removed(
    producer: FlowProducer, remove: Callable[[str], Awaitable[None]], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan, removing = Store.plan, list[asyncio.Future[None]]()

    async def late(self: Store, flow_id: str, digest: str) -> StoredPlan:
        if flow_id == "removed" and not removing:
            removing.append(asyncio.ensure_future(remove(flow_id)))
            await asyncio.shield(removing[0])  # the stage that is about to begin is cancelled with its flow
        return await plan(self, flow_id, digest)

    await producer.add(rm_flow("x"), id="removed")
    monkeypatch.setattr(Store, "plan", late)
    async with working(producer, rm_work, concurrency=1) as worker:
        assert isinstance(worker, Worker)
        # Whoever waits may see it between its cancellation and its removal.
        assert isinstance(await outcome(producer.flow("removed")), FlowCancelled | FlowNotFound)
        await removing[0]
        assert await outcome(await producer.add(rm_flow("y"))) == "y"
        assert await outcome(await producer.add(rm_flow("z"), id="removed")) == "z"
