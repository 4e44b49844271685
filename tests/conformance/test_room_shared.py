"""Stages that need room of a host also keep to limits of their queue and tenant, whichever queues the worker serves."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, RetryAfter, stage
from flowq.engine.capacity import slots
from tests.conformance.scene import busy, gate, most
from tests.engine.work import until, working

pytestmark = pytest.mark.anyio


@stage(queue="cards")
async def crs_plain(number: int) -> int:
    await busy(queue=1)
    return number


@stage(queue="cards", needs={"card": 1})
async def crs_needy(number: int) -> int:
    await busy(queue=1, card=1)
    return number


@stage(needs={"card": 1})
async def crs_other(number: int) -> int:
    await busy(card=1)
    return number


@stage(queue="more", needs={"card": 1})
async def crs_held(number: int) -> int:
    await gate.stop_async()
    return number


ran: list[str] = []


@stage(queue="crs-one", needs={"card": 1}, attempts=100)
async def crs_backlog(number: int) -> int:
    """There is always one that waits until the single one has run: for some 20,000 runs."""
    if not number:
        await gate.stop_async()
    elif "single" not in ran:
        raise RetryAfter(0)
    return number


@stage(queue="crs-two", needs={"card": 1})
async def crs_single() -> None:
    ran.append("single")


EVERY = (crs_plain, crs_needy, crs_other, crs_held)


@pytest.mark.parametrize("limits", [["tenant:t"], ["queue:cards"], ["tenant:t", "queue:cards"]], ids=" and ".join)
@pytest.mark.parametrize("concurrency", [1, 10])
async def test_what_keeps_to_limits_too_has_its_turn(producer: FlowProducer, limits: list[str], concurrency: int) -> None:
    for limit in limits:
        await producer.set_limit(limit, concurrency=1)
    async with working(producer, *EVERY, has={"card": 1}, concurrency=concurrency):
        flows = [
            await producer.add(one.flow(number), tenant="t") for number in range(4) for one in (crs_needy, crs_other, crs_plain)
        ]
        assert [await flow.result(30) for flow in flows] == [number for number in range(4) for _ in range(3)]
    assert most["card"] == 1
    assert most["queue"] == 1 or "queue:cards" not in limits


async def test_who_waits_while_it_is_in_use_says_so_and_has_it_next(producer: FlowProducer) -> None:
    await producer.set_limit("tenant:t", concurrency=2)
    async with working(producer, *EVERY, has={"card": 1}):
        held = await producer.add(crs_held.flow(1), tenant="t")
        await gate.until_arrived()
        waiting = [await producer.add(one.flow(2), tenant="t") for one in (crs_needy, crs_other)]
        for flow in waiting:
            snapshot = await until(flow, lambda found: found.graph[0].reason is not None)
            reason = snapshot.graph[0].reason
            assert reason is not None
            assert reason.code == "room_used"
        gate.opened.set()
        assert [await flow.result(30) for flow in (held, *waiting)] == [1, 2, 2]


async def test_workers_of_a_host_take_turns_with_what_it_has(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "TURN_SECONDS", 0.0)
    ran.clear()
    async with working(producer, crs_backlog, has={"card": 1}), working(producer, crs_single, has={"card": 1}):
        first = await producer.add(crs_backlog.flow(0))
        await gate.until_arrived()
        backlog = [await producer.add(crs_backlog.flow(number)) for number in range(1, 200)]
        single = await producer.add(crs_single.flow())
        await until(single, lambda found: getattr(found.graph[0].reason, "code", "") == "room_used")
        gate.opened.set()
        for flow in (first, single, *backlog):  # who has most of the work would have it until all has failed
            await flow.result(30)
