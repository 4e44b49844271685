"""A limit is raised, lowered or removed while stages wait for it: nobody keeps an appointment that the old rule gave."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, limit, stage
from flowq.errors import FlowFailed
from flowq.model.limit import LimitUse
from flowq.pipeline import Stage
from flowq.store.limits import Granted, Limits
from tests.engine.work import until, working

pytestmark = pytest.mark.anyio

LEASE_MS = 15_000


@pytest.fixture
def limits(producer: FlowProducer) -> Limits:
    """The limits of the test's namespace."""
    return Limits(producer._open.store)


async def wait_ms(limits: Limits, permit: str, use: LimitUse = LimitUse("lc")) -> int:
    """How long this permit has to wait now."""
    answer = await limits.acquire(use, permit, "h", LEASE_MS)
    assert isinstance(answer, Granted)
    return max(0, answer.at - answer.now)


@stage
async def lc_daily(number: int) -> int:
    async with limit("lc"):
        return number


@stage(limits=[limit("lc")])
async def lc_option(number: int) -> int:
    return number


@stage
async def lc_free(number: int) -> int:
    return number


@pytest.mark.parametrize("waiting", [lc_daily, lc_option])
async def test_who_waits_for_a_rate_goes_on_when_it_is_raised(producer: FlowProducer, waiting: Stage[[int], int]) -> None:
    await producer.set_limit("lc", rate="1/d")
    async with working(producer, lc_daily, lc_option, lc_free, concurrency=3):
        assert await (await producer.add(waiting.flow(0))).result(30) == 0
        flows = [await producer.add(waiting.flow(number)) for number in (1, 2, 3)]
        for flow in flows:
            await until(flow, lambda seen: seen.graph[0].reason is not None and seen.graph[0].reason.code == "rate_limited")
        await producer.set_limit("lc", rate="1000000/d")
        assert [await flow.result(30) for flow in flows] == [1, 2, 3]
        assert await (await producer.add(lc_free.flow(4))).result(30) == 4
    assert [(state.held, state.waiting, state.next_at) for state in await producer.limits()] == [(0, 0, None)]


async def test_who_waits_for_a_limit_that_is_removed_is_told_so(producer: FlowProducer) -> None:
    await producer.set_limit("lc", rate="1/d")
    async with working(producer, lc_daily, concurrency=1):
        assert await (await producer.add(lc_daily.flow(0))).result(30) == 0
        flow = await producer.add(lc_daily.flow(1))
        await until(flow, lambda seen: seen.graph[0].reason is not None and seen.graph[0].state == "running")
        await producer.remove_limit("lc")
        with pytest.raises(FlowFailed, match="flowq limits set lc"):
            await flow.result(30)


async def test_what_was_used_before_a_change_still_counts_and_what_was_granted_for_later_does_not(
    producer: FlowProducer, limits: Limits
) -> None:
    await producer.set_limit("lc", rate="2/h")
    waits = [await wait_ms(limits, f"p{number}") for number in range(6)]
    assert [wait > 0 for wait in waits] == [False, False, True, True, True, True]
    await producer.set_limit("lc", rate="3/h")
    assert (await producer.limits())[0].next_at is None
    waits = [await wait_ms(limits, f"p{number}") for number in range(6)]
    assert [wait // 3_000_000 for wait in waits] == [0, 0, 0, 1, 1, 1], "two were used, a third is free, three wait for them"


async def test_a_rate_with_another_period_counts_what_was_used(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("lc", rate="5/m")
    assert [await wait_ms(limits, f"p{number}") for number in range(5)] == [0] * 5
    await producer.set_limit("lc", rate="6/h")
    assert await wait_ms(limits, "sixth") == 0
    assert 3_000_000 < await wait_ms(limits, "seventh") < 2 * 3_600_000
    await producer.set_limit("lc", rate="6/m")
    assert 0 < await wait_ms(limits, "eighth") < 120_000


async def test_the_same_rule_set_again_changes_nothing(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("lc", rate="1/h")
    assert await wait_ms(limits, "p0") == 0
    second = await limits.acquire(LimitUse("lc"), "p2", "h", LEASE_MS)
    await producer.set_limit("lc", rate="1/h")
    assert isinstance(second, Granted)
    again = await limits.acquire(LimitUse("lc"), "p2", "h", LEASE_MS)
    assert isinstance(again, Granted)
    assert again.at == second.at


async def test_a_place_that_is_held_stays_when_the_appointment_with_it_is_made_anew(
    producer: FlowProducer, limits: Limits
) -> None:
    await producer.set_limit("lc", rate="1/h", concurrency=2)
    assert await wait_ms(limits, "p0") == 0
    assert await wait_ms(limits, "p1") > 0
    await producer.set_limit("lc", rate="9/h", concurrency=2)
    assert await wait_ms(limits, "p1") == 0
    (state,) = await producer.limits()
    assert (state.held, state.waiting) == (2, 0)


async def test_what_is_given_back_after_a_change_is_not_taken_from_others(producer: FlowProducer, limits: Limits) -> None:
    await producer.set_limit("lc", rate="1/h")
    use = LimitUse("lc")
    assert await wait_ms(limits, "p0") == 0
    assert await wait_ms(limits, "late") > 0
    await producer.set_limit("lc", rate="2/h")
    assert await wait_ms(limits, "p1") == 0
    await limits.give_back(use, "h", ["late"], is_unused=True)
    assert await wait_ms(limits, "p2") > 3_000_000
