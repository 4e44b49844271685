"""A worker meets a flow whose data somebody spoilt: it costs itself, and neither the worker nor the others."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, stage
from tests.engine.waiting import in_the_end
from tests.engine.work import working

pytestmark = pytest.mark.anyio


async def test_a_flow_that_lost_its_plan_fails_and_the_worker_goes_on(producer: FlowProducer) -> None:
    @stage
    async def one(number: int) -> int:
        return number

    flows = [await producer.add(one.flow(number)) for number in range(3)]
    store = producer._open.store
    await store.connection.command("HDEL", store.keys.flow(flows[1].id), "p")

    async def failed() -> list[str]:
        return [flow.id for flow in await producer.list(state="failed")]

    async with working(producer, one):
        assert [await flows[number].result(30) for number in (0, 2)] == [0, 2]
        assert await in_the_end(failed) == [flows[1].id]
        assert await (await producer.add(one.flow(7))).result(30) == 7
