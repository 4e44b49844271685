"""The two calls that a worker has in flight."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, stage
from flowq.store.events import events_of
from flowq.store.keys import EVENTS
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@stage
async def lines_same(number: int) -> int:
    return number


async def test_each_call_claims_its_share_of_what_may_run(producer: FlowProducer) -> None:
    flows = await producer.add_bulk(lines_same.flow(number) for number in range(40))
    async with working(producer, lines_same, concurrency=10):
        assert [await flow.result(30) for flow in flows] == [*range(40)]
    store = producer._open.store
    claimed: list[int] = []
    for tag in store.partitions:
        for _, fields in await store.connection.command("XRANGE", tag + EVENTS, "-", "+"):
            claimed.append([event.verb for event in events_of(fields[b"b"])].count("claimed"))
    assert sum(claimed) == 40
    assert max(claimed) == 5
