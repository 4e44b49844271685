"""What `producer.limits()` tells of who holds a limit and who waits for it, whatever they share it by."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, stage
from flowq.model.limit import LimitUse
from flowq.store.limits import Granted, Limits, Waits

pytestmark = pytest.mark.anyio

LEASE_MS = 15_000


async def seen(producer: FlowProducer) -> tuple[int, int]:
    """How many hold the only limit, and how many wait for it."""
    (state,) = await producer.limits()
    return state.held, state.waiting


async def test_what_is_held_and_waited_for_under_keys_is_counted(producer: FlowProducer) -> None:
    limits = Limits(producer._open.store)
    await producer.set_limit("per-user", concurrency=1)
    one, other = LimitUse("per-user", (), "user:1"), LimitUse("per-user", (), "user:2")
    assert isinstance(await limits.acquire(one, "p1", "h", LEASE_MS), Granted)
    assert isinstance(await limits.acquire(other, "p2", "h", LEASE_MS), Granted)
    assert isinstance(await limits.acquire(one, "p3", "h", LEASE_MS), Waits)
    assert isinstance(await limits.acquire(one, "p3", "h", LEASE_MS), Waits)
    await limits.extend(LEASE_MS, ["h"])
    assert await seen(producer) == (2, 1)
    await limits.give_back(one, "h", ["p1"])
    assert isinstance(await limits.acquire(one, "p3", "h", LEASE_MS), Granted)
    assert await seen(producer) == (2, 0)
    await limits.give_back(one, "h", ["p3"])
    await limits.give_back(other, "h", ["p2"])
    assert await seen(producer) == (0, 0)


async def test_who_waits_for_the_moment_that_a_rate_gave_him_is_counted_until_he_goes(producer: FlowProducer) -> None:
    limits = Limits(producer._open.store)
    await producer.set_limit("hourly", rate="1/h")
    for permit in ("p1", "p2", "p3"):
        assert isinstance(await limits.acquire(LimitUse("hourly"), permit, "h", LEASE_MS), Granted)
    assert await seen(producer) == (0, 2)
    await limits.give_back(LimitUse("hourly"), "h", ["p3"], is_unused=True)
    assert await seen(producer) == (0, 1)


async def test_who_waits_for_a_place_without_a_key_is_counted_once(producer: FlowProducer) -> None:
    limits = Limits(producer._open.store)
    await producer.set_limit("single", concurrency=1)
    assert isinstance(await limits.acquire(LimitUse("single"), "p1", "h", LEASE_MS), Granted)
    for permit in ("p2", "p3", "p2"):
        assert isinstance(await limits.acquire(LimitUse("single"), permit, "h", LEASE_MS), Waits)
    assert await seen(producer) == (1, 2)
    await limits.give_back(LimitUse("single"), "h", ["p2"])
    assert await seen(producer) == (1, 1)


@stage(queue="seen")
async def ls_held(number: int) -> int:
    return number


async def test_stages_that_the_limit_of_their_queue_or_tenant_holds_back_are_counted_while_it_is_used_up(
    producer: FlowProducer,
) -> None:
    limits = Limits(producer._open.store)
    await producer.set_limit("queue:seen", concurrency=2)
    await producer.set_limit("tenant:acme", concurrency=1)
    await producer.set_limit("queue:other", concurrency=1)
    for number in range(7):
        await producer.add(ls_held.flow(number), tenant="acme" if number < 4 else "other")
    assert {limit.name: limit.waiting for limit in await producer.limits()} == {
        "queue:other": 0,
        "queue:seen": 0,
        "tenant:acme": 0,
    }
    for name, permits in (("queue:seen", ["p1", "p2"]), ("tenant:acme", ["p3"]), ("queue:other", ["p4"])):
        assert await limits.take(name, "h", LEASE_MS, permits) == len(permits)
    assert {limit.name: limit.waiting for limit in await producer.limits()} == {
        "queue:other": 0,
        "queue:seen": 7,
        "tenant:acme": 4,
    }
    await limits.give_back(LimitUse("queue:seen"), "h", ["p1"])
    assert {limit.name: limit.waiting for limit in await producer.limits()} == {
        "queue:other": 0,
        "queue:seen": 0,
        "tenant:acme": 4,
    }


@pytest.mark.parametrize(
    ("rate", "told"), [("1/h", "1 request an hour"), ("2/h", "2 requests an hour"), ("1/d", "1 request a day")]
)
async def test_a_rate_is_told_in_words(producer: FlowProducer, rate: str, told: str) -> None:
    await producer.set_limit("told", rate=rate)
    assert str((await producer.limits())[0].rule) == told
