"""Flows that are to be removed while their hooks have not ended."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

import pytest

from flowq import FlowProducer, Unrecoverable, pipeline, stage
from flowq.engine.duties.duties import Pruner
from flowq.hooks import FlowEnd
from flowq.store import outlived
from flowq.store.retentions import Retention
from tests.conformance.after_the_end import archived, hooks_ended, pruner_of
from tests.conformance.scene import gate
from tests.engine.work import outcome, working
from tests.store.acting import in_one_partition

pytestmark = pytest.mark.anyio


@stage
async def hh_work(text: str) -> str:
    if text == "bad":
        raise Unrecoverable("bad")
    return text


@stage
def hh_hold(end: FlowEnd) -> None:
    gate.stop()


@pipeline(finally_=hh_hold)
def hh_held(text: str) -> str:
    return hh_work(text)


@pipeline
def hh_free(text: str) -> str:
    return hh_work(text)


def archiving(producer: FlowProducer) -> Pruner:
    producer._open.store.retention = Retention(-3_600_000, -1_000, -1_000)
    return pruner_of(producer, archive=True)


@contextlib.asynccontextmanager
async def held(producer: FlowProducer, text: str) -> AsyncIterator[None]:
    """A flow that has ended, and whose hook runs as long as the block."""
    async with working(producer, hh_work, hh_hold):
        flow = await producer.add(hh_held(text), id="held")
        await outcome(flow)
        await gate.until_arrived()
        yield
        gate.opened.set()
        await hooks_ended(flow)


@pytest.mark.parametrize("text", ["good", "bad"])
async def test_a_flow_is_archived_once_its_hooks_have_ended(producer: FlowProducer, text: str) -> None:
    async with held(producer, text):
        pruner = archiving(producer)
        assert [await pruner.run_once() for _ in range(2)] == [0, 0]
        assert (await producer.prune(state="completed" if text == "good" else "failed")).held == ["held"]
        assert archived(producer) == {}
    assert (await producer.prune(state="completed" if text == "good" else "failed")).done == 1
    assert await archiving(producer).run_once() == 0


async def test_the_archive_has_a_flow_and_its_hooks_once(producer: FlowProducer) -> None:
    async with held(producer, "bad"):
        pruner = archiving(producer)
        await pruner.run_once()
    assert await pruner.run_once() == 1
    assert set(archived(producer)) == {"held", "held^end"}


async def test_a_flow_does_not_expire_while_its_hooks_run(producer: FlowProducer) -> None:
    store = producer._open.store
    async with held(producer, "good"):
        # The day in which a flow is to be removed is nearly over.
        await store.connection.command("PEXPIRE", store.keys.flow("held"), 600_000)
        await archiving(producer).run_once()
        store.retention = Retention(*[-4 * 3_600_000] * 3)
        await pruner_of(producer).run_once()
        assert await store.connection.command("PTTL", store.keys.flow("held")) > 86_400_000


async def test_flows_behind_many_that_are_held_are_removed(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlived, "_PAGE", 2)
    *names, free = in_one_partition(producer._open.store, 4)
    async with working(producer, hh_work, hh_hold, concurrency=8):
        for name in names:
            await outcome(await producer.add(hh_held("bad"), id=name))
        await outcome(await producer.add(hh_free("bad"), id=free))
        assert await archiving(producer).run_once() == 1
        assert set(archived(producer)) == {free}
        gate.opened.set()
