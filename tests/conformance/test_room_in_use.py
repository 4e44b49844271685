"""A stage that waits because others use what it needs of the host says what is in use, and where."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.model.snapshot import FlowSnapshot
from tests.conformance.scene import gate
from tests.engine.work import until, working

pytestmark = pytest.mark.anyio


@stage(needs={"card": 1, "memory": 20})
async def cu_holds(number: int) -> int:
    await gate.stop_async()
    return number


@stage
async def cu_some() -> list[int]:
    return [1, 2]


@stage(needs={"memory": 20})
async def cu_item(number: int) -> int:
    return number


@pipeline
def cu_mapped() -> list[int]:
    return cu_item.map(cu_some())


EVERY = (cu_holds, cu_some, cu_item)


def says(snapshot: FlowSnapshot) -> tuple[str, tuple[str, ...], str]:
    """The reason of its last stage."""
    reason = snapshot.graph[-1].reason
    return (reason.code, reason.on, reason.sentence) if reason else ("", (), "")


async def test_a_stage_that_others_take_the_room_from_says_so(producer: FlowProducer) -> None:
    has = {"card": 1, "memory": 30}
    async with working(producer, *EVERY, has=has, name="one"), working(producer, *EVERY, has=has, name="two"):
        held = await producer.add(cu_holds.flow(1))
        await gate.until_arrived()
        waits = await producer.add(cu_holds.flow(2))
        wanted = "needs card=1 and memory=20, which no worker of queue default has free"
        snapshot = await until(waits, lambda found: says(found)[0] == "room_used")
        assert says(snapshot)[1:] == (("card", "memory"), f"{wanted}: on one 1 of 1 card, 20 of 30 memory in use")
        assert [(worker.name, worker.in_use) for worker in await producer.workers()] == [
            (name, {"card": 1, "memory": 20}) for name in ("one", "two")
        ], "a host's processes share what it has"
        gate.opened.set()
        assert [await flow.result(30) for flow in (held, waits)] == [1, 2]


async def test_a_map_whose_items_others_take_the_room_from_says_so(producer: FlowProducer) -> None:
    async with working(producer, *EVERY, has={"card": 1, "memory": 20}, name="one"):
        held = await producer.add(cu_holds.flow(1))
        await gate.until_arrived()
        waits = await producer.add(cu_mapped())
        snapshot = await until(waits, lambda found: says(found)[0] == "room_used")
        assert says(snapshot)[2].endswith("on one 20 of 20 memory in use")
        gate.opened.set()
        assert [await held.result(30), await waits.result(30)] == [1, [1, 2]]
