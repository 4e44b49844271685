"""A rate is changed while others wait, and the times that the old one gave them come: nobody is let in on them any more."""

from __future__ import annotations

import asyncio

import pytest

from flowq import FlowProducer
from flowq.model.limit import LimitUse
from flowq.store.limits import Granted, Limits
from flowq.store.views import Views
from tests.engine.waiting import in_the_end

pytestmark = pytest.mark.anyio

USE, LEASE_MS, SECOND, HOUR = LimitUse("la"), 15_000, 1_000, 3_600_000


class Waiters:
    """Who asks for permits of one limit, and when each was let in."""

    def __init__(self, producer: FlowProducer) -> None:
        store = producer._open.store
        self._views, self._limits = Views(store), Limits(store)

    async def ask(self, permit: str) -> Granted:
        """One look."""
        answer = await self._limits.acquire(USE, permit, "h", LEASE_MS)
        assert isinstance(answer, Granted)
        return answer

    async def let_in(self, permit: str) -> int:
        """Asks until the time has come."""

        async def seen() -> int:
            answer = await self.ask(permit)
            return answer.at if answer.at <= answer.now else 0

        return await in_the_end(seen)

    async def five_and_five(self, producer: FlowProducer, then: str, *, at_once: tuple[str, ...] = ()) -> list[int]:
        """Five are let in, five wait; the rate is changed, others ask at once, and the times that the five were given come.

        Returns:
            When the first were let in.
        """
        await producer.set_limit("la", rate="5/s")
        granted = [await self.ask(f"p{number}") for number in range(10)]
        assert [one.at > one.now for one in granted] == [False] * 5 + [True] * 5
        await producer.set_limit("la", rate=then)
        for permit in at_once:
            await self.ask(permit)

        async def has_come() -> bool:
            return await self._views.now() >= granted[-1].at

        await in_the_end(has_come)
        return [one.at for one in granted[:5]]


def most_in(times: list[int], period_ms: int) -> int:
    """The most that fall into any period."""
    return max(sum(first <= other < first + period_ms for other in times) for first in times)


@pytest.mark.parametrize(("then", "most", "period_ms"), [("6/s", 6, SECOND), ("4/500ms", 4, SECOND // 2)])
async def test_no_window_holds_more_than_a_changed_rate_allows(
    producer: FlowProducer, then: str, most: int, period_ms: int
) -> None:
    waiters = Waiters(producer)
    others = tuple(f"new{number}" for number in range(7))
    before = await waiters.five_and_five(producer, then, at_once=others)
    permits = [*others, *(f"p{number}" for number in range(5, 10))]
    after = await asyncio.gather(*map(waiters.let_in, permits))
    assert most_in(after, period_ms) <= most
    assert most_in(before + after, period_ms) <= max(5, most)


@pytest.mark.parametrize("at_once", [(), ("new",)], ids=["nobody else", "others"])
async def test_who_waits_obeys_a_tightened_rate_at_once_though_the_time_it_was_given_has_come(
    producer: FlowProducer, at_once: tuple[str, ...]
) -> None:
    waiters = Waiters(producer)
    before = await waiters.five_and_five(producer, "5/2h", at_once=at_once)
    for permit in ("new", *(f"p{number}" for number in range(5, 10))):
        assert (await waiters.ask(permit)).at >= before[0] + 2 * HOUR, permit


async def test_times_that_a_rate_gave_before_it_was_changed_are_taken_from_nobody(producer: FlowProducer) -> None:
    waiters = Waiters(producer)
    before = await waiters.five_and_five(producer, "10/2h")
    again = [await waiters.ask(f"p{number}") for number in range(5, 10)]
    assert [one.at <= one.now for one in again] == [True] * 5, "five of the ten were used, and these five are no others"
    assert (await waiters.ask("new")).at >= before[0] + 2 * HOUR


async def test_who_was_let_in_before_a_change_is_so_when_asking_again(producer: FlowProducer) -> None:
    waiters = Waiters(producer)
    await producer.set_limit("la", rate="1/h")
    first = await waiters.ask("p0")
    await producer.set_limit("la", rate="1/d")
    await producer.set_limit("la", rate="1/h")
    assert (await waiters.ask("p0")).at == first.at
