"""Completed flows that were not removed with the others of their hour: their hooks ran, or they were to be kept longer."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.hooks import FlowEnd
from flowq.store.retentions import Retention
from flowq.store.views import Views
from tests.conformance.after_the_end import hooks_ended, pruner_of
from tests.conformance.scene import gate
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio

# As if some hours had passed: what was added until now is older than what is still looked for by its hour.
LONG_AGO = Retention(*[-4 * 3_600_000] * 3)


@stage
async def kb_work(text: str) -> str:
    return text


@stage
def kb_hold(end: FlowEnd) -> None:
    gate.stop()


@pipeline(finally_=kb_hold)
def kb_held(text: str) -> str:
    return kb_work(text)


def kb_kept(**options: Any) -> Any:
    """The pipeline as it is now."""

    @pipeline(name="kb_kept", **options)
    def kept(text: str) -> str:
        return kb_work(text)

    return kept


async def test_a_flow_whose_hook_ended_after_its_hour_was_handled_is_removed_then(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, kb_work, kb_hold):
        flow = await producer.add(kb_held("a"), id="held")
        await flow.result(30)
        await gate.until_arrived()
        store.retention = LONG_AGO
        assert await pruner_of(producer).run_once() == 0
        gate.opened.set()
        await hooks_ended(flow)
    assert await pruner_of(producer).run_once() == 1
    assert not await Views(store).exists("held")
    assert not await Views(store).exists("held^end")


async def test_flows_go_when_their_pipeline_no_longer_says_that_they_are_kept_longer(producer: FlowProducer) -> None:
    store = producer._open.store
    names = [f"f{number}" for number in range(6)]
    async with working(producer, kb_work):
        for name in names:
            await outcome(await producer.add(kb_kept(keep={"completed": "30d"})(name), id=name))
    store.retention = LONG_AGO
    assert await pruner_of(producer).run_once() == 0
    # In each partition, which knows of a pipeline what its flows there said last.
    for name in names:
        await (await producer.add(kb_kept()(name), id=f"{name}-later")).cancel()
    await pruner_of(producer).run_once()
    assert [name for name in names if await Views(store).exists(name)] == []
