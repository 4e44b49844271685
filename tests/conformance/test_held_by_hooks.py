"""Flows that are to be removed while their hooks have not ended."""

from __future__ import annotations

import json

import pytest

from flowq import Artifact, FlowProducer, Unrecoverable, pipeline, stage
from flowq.artifacts.storage import Storage
from flowq.engine.duties.duties import Pruner
from flowq.engine.duties.removal import Remover
from flowq.hooks import FlowEnd
from flowq.settings import KeepSettings
from flowq.store import outlived
from flowq.store.retentions import Retention
from flowq.store.views import Views
from tests.conformance.after_the_end import hooks_ended
from tests.conformance.scene import gate
from tests.engine.work import outcome, working
from tests.store.acting import in_one_partition

pytestmark = pytest.mark.anyio

AT_ONCE = Retention(-3_600_000, -1_000, -1_000)


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
    store, storage = producer._open.store, producer.storage
    store.retention = AT_ONCE
    return Pruner(store, Views(store), Remover(store, lambda: storage, KeepSettings(archive=True)))


def archived(storage: Storage) -> list[str]:
    """The ids of what stands in the archive."""
    lines: list[str] = []
    for found in storage.objects("archive/"):
        with storage.open(Artifact(found.key, found.size)) as stream:
            lines += [json.loads(line)["id"] for line in stream.read().decode().splitlines()]
    return sorted(lines)


@pytest.mark.parametrize("text", ["good", "bad"])
async def test_a_flow_is_archived_once_its_hooks_have_ended(producer: FlowProducer, text: str) -> None:
    async with working(producer, hh_work, hh_hold):
        flow = await producer.add(hh_held(text), id="held")
        await outcome(flow)
        await gate.until_arrived()
        pruner = archiving(producer)
        assert [await pruner.run_once() for _ in range(2)] == [0, 0]
        assert (await producer.prune(state="completed" if text == "good" else "failed")).held == ["held"]
        assert archived(producer.storage) == []
        gate.opened.set()
        await hooks_ended(flow)
    assert (await producer.prune(state="completed" if text == "good" else "failed")).done == 1
    assert await archiving(producer).run_once() == 0


async def test_the_archive_has_a_flow_and_its_hooks_once(producer: FlowProducer) -> None:
    async with working(producer, hh_work, hh_hold):
        flow = await producer.add(hh_held("bad"), id="held")
        await outcome(flow)
        await gate.until_arrived()
        pruner = archiving(producer)
        await pruner.run_once()
        gate.opened.set()
        await hooks_ended(flow)
    assert await pruner.run_once() == 1
    assert archived(producer.storage) == ["held", "held^end"]


async def test_a_flow_does_not_expire_while_its_hooks_run(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, hh_work, hh_hold):
        flow = await producer.add(hh_held("good"), id="held")
        await outcome(flow)
        await gate.until_arrived()
        # The day in which a flow is to be removed is nearly over.
        await store.connection.command("PEXPIRE", store.keys.flow("held"), 600_000)
        await archiving(producer).run_once()
        store.retention = Retention(*[-4 * 3_600_000] * 3)
        await Pruner(store, Views(store)).run_once()
        assert await store.connection.command("PTTL", store.keys.flow("held")) > 86_400_000
        gate.opened.set()


async def test_flows_behind_many_that_are_held_are_removed(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlived, "_PAGE", 2)
    *held, free = in_one_partition(producer._open.store, 4)
    async with working(producer, hh_work, hh_hold, concurrency=8):
        for name in held:
            await outcome(await producer.add(hh_held("bad"), id=name))
        await outcome(await producer.add(hh_free("bad"), id=free))
        assert await archiving(producer).run_once() == 1
        assert archived(producer.storage) == [free]
        gate.opened.set()
