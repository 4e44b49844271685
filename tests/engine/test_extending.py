"""Permits of limits are extended after the leases of their holders, at the cost of what is held and not of what is set."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import AsyncIterator

import pytest

from flowq import FlowProducer
from flowq.engine.duties.extending import UNKNOWN, PermitKeeper
from flowq.engine.duties.lease import LeaseKeeper
from flowq.model.limit import LimitRule, LimitUse
from flowq.store.limits import Granted, Limits
from flowq.store.store import Store
from tests.engine.waiting import in_the_end
from tests.servers import running_valkey
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio
MANY = 3_000


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    """A store on a server of its own, whose calls are counted, with thousands of limits."""
    with running_valkey() as url:
        async with FlowProducer(url, namespace=f"t{secrets.token_hex(4)}") as producer:
            store = producer._open.store
            for first in range(0, MANY, 500):
                names = [f"tenant:t{number}" for number in range(first, first + 500)]
                await asyncio.gather(*(Limits(store).set(name, LimitRule(concurrency=5)) for name in names))
            yield store


async def calls(store: Store, *commands: str) -> int:
    """How often the server was sent these."""
    stats = await store.connection.command("INFO", "commandstats")
    return sum(int(stats.get(f"cmdstat_{command}", {"calls": 0})["calls"]) for command in commands)


async def scripts(store: Store) -> int:
    """How many calls of scripts the server has had."""
    return await calls(store, "evalsha", "fcall", "eval")


async def test_of_thousands_of_limits_only_those_are_extended_that_are_held(store: Store) -> None:
    limits = Limits(store)
    for holder, name in (("one", "tenant:t7"), ("two", "tenant:t2999")):
        assert isinstance(await limits.acquire(LimitUse(name), holder, holder, 60_000), Granted)
    assert await limits.extend(60_000, ["one"]), "and the server knows the script"
    before = await scripts(store)
    assert await limits.extend(60_000, ["one", "two", "three"])
    assert await scripts(store) - before == 2
    assert not await limits.extend(60_000, ["three"])
    assert await scripts(store) - before == 2


async def test_a_holder_that_has_no_permit_asks_nothing_until_it_has_asked_for_one(store: Store) -> None:
    keeper = PermitKeeper(store, 10, 1.0)

    async def asks(count: int) -> bool:
        before = await calls(store, "smembers")
        keeper.extend({"one": count})
        if keeper._extending is not None:
            await keeper._extending
        return await calls(store, "smembers") > before

    async def asks_no_more() -> bool:
        return not await asks(1)

    async def asks_no_more_than_twice() -> bool:
        return not await asks(2)

    assert not await asks(0)
    assert await asks(1), "what it has asked for may be under way"
    await in_the_end(asks_no_more)
    await Limits(store).acquire(LimitUse("tenant:t0"), "permit", "one", 60_000)
    assert await asks(2)
    await in_the_end(lambda: outlives_a_lease(keeper))
    assert await asks(2), "it has one still"
    await Limits(store).give_back(LimitUse("tenant:t0"), "one", ["permit"])
    await in_the_end(asks_no_more_than_twice)
    assert await asks(UNKNOWN)
    await in_the_end(lambda: outlives_a_lease(keeper))
    assert await asks(UNKNOWN)
    assert await asks(UNKNOWN), "it may have some at any time"


async def outlives_a_lease(keeper: PermitKeeper) -> bool:
    """Whether what was asked for last was asked for longer ago than a lease."""
    (_, since) = keeper._asked["one"]
    return asyncio.get_running_loop().time() - since >= keeper._lease_ms / 1000


async def test_a_lease_is_renewed_though_its_permits_can_not_be_extended(
    producer: FlowProducer, caplog: pytest.LogCaptureFixture
) -> None:
    store = producer._open.store
    actor, tag = await Actor(store).begin(1_000), store.partitions[0]
    limits = Limits(store)
    await limits.set("shared", LimitRule(concurrency=1))
    assert isinstance(await limits.acquire(LimitUse("shared"), "permit", actor.id, 1_000), Granted)
    await store.connection.command("RENAME", store.keys.limits, store.keys.limits + "-kept")
    await store.connection.command("SET", store.keys.limits, "damaged")
    lost: list[str] = []
    keeper = LeaseKeeper(store.connection.url, store.keys.namespace, actor.id, 1_000, lost.append)
    keeper.start()
    first = await store.lease_of(tag, actor.id) or 0

    async def is_renewed() -> bool:
        return (await store.lease_of(tag, actor.id) or 0) >= first + 2_000

    try:
        await in_the_end(is_renewed)
        await store.connection.command("RENAME", store.keys.limits + "-kept", store.keys.limits)
        assert isinstance(await limits.acquire(LimitUse("shared"), "later", actor.id, 1_000), Granted)
        until = (await store.lease_of(tag, actor.id) or 0) + 2_000

        async def is_extended() -> bool:
            return (await store.lease_of(tag, actor.id) or 0) >= until

        await in_the_end(is_extended)
        state = await limits.state("shared")
    finally:
        await asyncio.to_thread(keeper.stop)
    assert not lost
    assert state is not None
    assert state.held == 1
    assert len([one for one in caplog.records if "could not be extended" in one.message and one.levelno == logging.WARNING]) == 1
