"""What functions remember from call to call is bounded, whatever workers serve and however many children a stage has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import NamedTuple

import msgspec
import pytest
import redis

from benchmarks.server import counters
from flowq.model.outcome import Complete, opaque
from flowq.model.plan import Plan, StagePlan
from flowq.model.spec import FlowSpec
from flowq.store.connection import Connection
from flowq.store.store import Store
from flowq.store.wants import Wants
from tests.servers import running_valkey
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio


class Alone(NamedTuple):
    """A store on a server of its own, because what functions remember is the whole server's; and a client to ask it."""

    store: Store
    client: redis.Redis

    def remembers(self) -> int:
        """How many bytes functions hold."""
        return self.client.info("memory")["used_memory_vm_functions"]


@pytest.fixture
async def alone(anyio_backend: str) -> AsyncIterator[Alone]:
    """On a server that nobody else uses."""
    with running_valkey() as url, redis.Redis.from_url(url) as client:
        opened = Store(Connection(url), "remembered")
        await opened.open(partitions=1)
        yield Alone(opened, client)
        await opened.close()


async def test_what_is_remembered_of_parents_is_bounded_however_many_children_they_have(alone: Alone) -> None:
    actor = await Actor(alone.store).begin()
    parents = opaque(msgspec.msgpack.encode([(7, "default:top", 1, 200_000, False, 0)]))
    nothing = opaque(b"\xc0")

    async def report(first: int) -> None:
        many = [Complete("gone", index, 1, "n", nothing, opaque(b""), parents) for index in range(first, first + 1_000)]
        await actor.exchange(*many, tag=alone.store.partitions[0])

    await report(10_000)
    before = alone.remembers()
    for number in range(100):
        await report(20_000 + 1_000 * number)
    assert alone.remembers() - before < 6_000_000


async def test_what_is_remembered_of_served_routes_is_bounded_however_many_partitions_there_are(alone: Alone) -> None:
    """Such as a namespace for each test run, or for each customer: all with the same stages."""
    routes = tuple(f"default:stage_{number}" for number in range(40))
    wants = [Wants(-1, routes, tuple(route + "!" for route in routes))]
    before = alone.remembers()
    for number in range(4_000):
        tag = f"{{namespace-of-somebody-{number}}}"
        await alone.store.connection.command("ZADD", f"{tag}:holders", 10**14, "h")
        await alone.store.exchange(tag, "h", 0, 1, "n", (), (), wants, 1, parks=False)
    assert alone.remembers() - before < 8_000_000


async def test_who_serves_many_routes_asks_for_all_lanes_at_once(alone: Alone) -> None:
    routes = tuple(f"default:r{number}" for number in range(1_001))
    wants = [Wants(-1, routes, tuple(route + "!" for route in routes))]
    actor = await Actor(alone.store).begin()
    before = counters(alone.client)
    await alone.store.exchange(alone.store.partitions[0], actor.id, 0, 1, "n", (), (), wants, 10, parks=False)
    assert counters(alone.client).since(before).commands < 20


async def test_who_serves_many_routes_finds_the_few_where_something_waits_without_looking_at_each(alone: Alone) -> None:
    plan = Plan("p", (StagePlan("a", "a", queue="here"),))
    await alone.store.submit([("f1", FlowSpec(plan, {}, b"\x80"))])
    routes = tuple(sorted([*(f"default:r{number}" for number in range(1_000)), "here:a"]))
    wants = [Wants(-1, routes, tuple(route + "!" for route in routes))]
    actor = await Actor(alone.store).begin()
    before = counters(alone.client)
    answer = await alone.store.exchange(alone.store.partitions[0], actor.id, 0, 1, "n", (), (), wants, 10, parks=False)
    assert answer is not None
    assert [claim.flow_id for claim in answer.claims] == ["f1"]
    assert counters(alone.client).since(before).commands < 60
