"""Which routes there are: noted with the first flow of a plan, forgotten with the last."""

from __future__ import annotations

import secrets
from typing import Any

import pytest
import redis

from benchmarks.server import counters
from flowq.model.fleet import QueueSnapshot
from flowq.model.plan import Binding, Plan, StagePlan
from flowq.model.spec import FlowSpec
from flowq.store.connection import Connection
from flowq.store.fleet import Fleet
from flowq.store.keys import ROUTES, ROUTES_LOST, ROUTES_STAMP
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import HolderInfo
from tests.servers import running_valkey
from tests.store.acting import LEASE_MS, Actor, in_one_partition
from tests.store.graphs import chain, one_stage, pack

pytestmark = pytest.mark.anyio


async def noted(store: Store) -> dict[str, int]:
    """Route → how many plans name it, over all partitions."""
    found: dict[str, int] = {}
    for tag in store.partitions:
        flat: Any = await store.connection.command("HGETALL", tag + ROUTES)
        pairs = flat.items() if isinstance(flat, dict) else zip(flat[::2], flat[1::2], strict=True)
        for route, count in pairs:
            if route in (ROUTES_STAMP.encode(), ROUTES_LOST.encode()):
                continue
            found[route.decode()] = found.get(route.decode(), 0) + int(count)
    return found


async def queues(store: Store) -> dict[str, QueueSnapshot]:
    return {queue.name: queue for queue in (await Fleet(store, Views(store)).queues()).queues}


async def pruned(store: Store, *flows: tuple[str, FlowSpec[Any]]) -> int:
    """How many of these are removed now."""
    before = await Views(store).now() + 1_000
    return sum(
        [
            await store.prune(store.keys.tag_of(flow_id), before, [f"{spec.plan.digest}{flow_id}".encode()])
            for flow_id, spec in flows
        ]
    )


async def test_queues_of_flows_that_are_neither_the_latest_nor_the_oldest_are_known(store: Store) -> None:
    cpu, gpu = one_stage(queue="cpu"), one_stage(queue="gpu")
    for name, spec, count in (("old", cpu, 60 * 4), ("gpu", gpu, 100), ("new", cpu, 5 * 4)):
        await store.submit([(f"{name}{number}", spec) for number in range(count)])
    found = await queues(store)
    assert {name: (queue.ready, queue.is_estimate) for name, queue in found.items()} == {"cpu": (260, False), "gpu": (100, False)}


async def test_a_route_is_forgotten_with_the_last_flow_of_the_last_plan_that_names_it(store: Store, actor: Actor) -> None:
    one, two, three = in_one_partition(store, 3)
    single, double = one_stage(), chain(2)
    await store.submit([(one, single), (two, single), (three, double)])
    await store.submit([(one, single)])
    assert await noted(store) == {"default:a": 1, "default:s": 1}
    await actor.finish()
    assert await pruned(store, (one, single), (three, double)) == 2
    assert await noted(store) == {"default:a": 1}
    assert await pruned(store, (two, single), (two, single)) == 1
    assert await noted(store) == {}
    await store.submit([(one, single)])
    assert await noted(store) == {"default:a": 1}


async def test_a_route_of_two_plans_stays_with_the_other(store: Store, actor: Actor) -> None:
    one, two = in_one_partition(store, 2)
    short, long = chain(2), chain(3)
    await store.submit([(one, short), (two, long)])
    assert await noted(store) == {"default:s": 2}
    await actor.finish()
    await pruned(store, (one, short))
    assert await noted(store) == {"default:s": 1}


async def test_a_plan_that_was_only_defined_names_no_queue(store: Store) -> None:
    spec = one_stage()
    for tag in store.partitions:
        await store._submissions._put_plan(tag, spec.plan.digest, spec.plan)
    assert await noted(store) == {}


@pytest.mark.parametrize("damage", ["deleted", "of another type", "without its stamp", "with a count that is none"])
async def test_routes_whose_hash_was_lost_are_counted_again_with_the_next_flow_of_each_plan(
    store: Store, actor: Actor, damage: str
) -> None:
    one, two, three, four, five = in_one_partition(store, 5)
    single, double = one_stage(), chain(2)
    await store.submit([(one, single), (two, double)])
    key = store.keys.tag_of(one) + ROUTES
    match damage:
        case "deleted":
            await store.connection.command("DEL", key)
        case "of another type":
            await store.connection.command("SET", key, "damaged")
        case "without its stamp":
            await store.connection.command("HDEL", key, ROUTES_STAMP)
        case _:
            await store.connection.command("HSET", key, "default:s", "many", ROUTES_STAMP, "other")
    if damage != "with a count that is none":
        assert (await queues(store))["default"].is_estimate
    await store.submit([(three, double)])
    await store.submit([(four, double)])
    assert await noted(store) == {"default:s": 1}
    assert (await queues(store))["default"].is_estimate
    assert await actor.finish() == 7
    await pruned(store, (one, single))
    assert await noted(store) == {"default:s": 1}
    await store.submit([(five, single)])
    assert await noted(store) == {"default:s": 1, "default:a": 1}
    assert await actor.finish() == 1
    assert await pruned(store, (two, double), (three, double), (four, double), (five, single)) == 4
    assert await store.connection.command("EXISTS", key) == 0
    await store.submit([(one, single)])
    assert not (await queues(store))["default"].is_estimate


def many_queues(count: int) -> FlowSpec[Any]:
    """A stage in each of so many queues."""
    stages = tuple(StagePlan(f"a-{number}", "a", queue=f"q{number}") for number in range(count))
    return FlowSpec(Plan("queues", stages, (Binding((), 0),)), {}, pack(None))


async def test_of_a_plan_with_very_many_queues_it_is_only_noted_that_there_are_others(store: Store) -> None:
    await store.submit([("f1", many_queues(200)), ("f2", one_stage())])
    found = await queues(store)
    assert (len(found), found["q199"].ready, found["q199"].is_estimate) == (201, 1, False)
    await store.submit([("f3", many_queues(201))])
    found = await queues(store)
    assert len(found) == 201
    assert all(queue.is_estimate for queue in found.values())


async def commands_for(url: str, size: int) -> int:
    """What a look at the queues asks of the server while a worker serves so many queues and stages."""
    store = Store(Connection(url), f"n{secrets.token_hex(3)}")
    await store.open()
    serves = tuple(f"q{number}" for number in range(size)), tuple(f"s{number}" for number in range(size))
    await store.register(store.partitions[0], "worker", LEASE_MS, HolderInfo("worker", *serves, (), 1))
    await store.submit([("f1", one_stage(queue="q0"))])
    client = redis.Redis.from_url(url)
    before = counters(client)
    found = await queues(store)
    cost = counters(client).since(before).commands
    client.close()
    await store.close()
    assert (len(found), found["q0"].ready, found["q0"].workers, found[f"q{size - 1}"].workers) == (size, 1, 1, 1)
    return cost


async def test_queues_times_stages_of_a_worker_cost_nothing(anyio_backend: str) -> None:
    with running_valkey() as url:
        assert await commands_for(url, 60) == await commands_for(url, 2)
