"""Tenants are served in turns, whatever each of them has waiting. Order is counted, in one partition: nothing is timed."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest

from flowq import FlowProducer, FlowSpec, pipeline, stage
from flowq.errors import InvalidValue
from flowq.store.keys import LANES, TENANT_LANES, TENANTS
from flowq.store.store import Store
from flowq.store.views import Views
from tests.engine.work import working
from tests.scanned import keys_like
from tests.store.acting import Actor
from tests.store.graphs import chain, drawn, one_stage, wide

pytestmark = pytest.mark.anyio


@pytest.fixture
def store(producer: FlowProducer) -> Store:
    """The producer's."""
    return producer._open.store


@pytest.fixture
async def actor(store: Store) -> Actor:
    """A registered holder."""
    return await Actor(store).begin()


class Office:
    """Adds flows to the first partition; ids tell whose they are."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._number = 0

    async def add(self, tenant: str, count: int = 1, spec: FlowSpec[Any] | None = None, priority: int = 0) -> None:
        flows: list[tuple[str, FlowSpec[Any]]] = []
        while len(flows) < count:
            self._number += 1
            flow_id = f"{tenant or 'nobody'}/{self._number}"
            if self._store.keys.tag_of(flow_id) == self._store.partitions[0]:
                flows.append((flow_id, (spec or one_stage()).with_options(tenant=tenant, priority=priority)))
        for start in range(0, count, 200):
            await self._store.submit(flows[start : start + 200])


@pytest.fixture
def office(store: Store) -> Office:
    """Where flows are added."""
    return Office(store)


async def served(actor: Actor, claims: int, at_once: int = 1) -> list[str]:
    """Whose stages are handed out, one after the other; each completes before the next is asked for."""
    names: list[str] = []
    while len(names) < claims:
        found = await actor.exchange_claims(actor.store.partitions[0], min(at_once, claims - len(names)))
        if not found:
            break
        for claim in found:
            names.append(claim.flow_id.partition("/")[0])
            assert await actor.complete(claim) == ""
    return names


async def test_one_flow_waits_for_at_most_one_stage_of_a_tenant_that_has_thousands(actor: Actor, office: Office) -> None:
    await office.add("big", 2_000)
    await served(actor, 20)
    running = await actor.exchange_claims(actor.store.partitions[0], 1)
    await office.add("small")
    assert "small" in await served(actor, 2)
    assert running[0].flow_id.startswith("big")


async def test_each_stage_of_a_chain_waits_for_at_most_one_of_others_though_those_wait_at_all_stages(
    actor: Actor, office: Office
) -> None:
    steps = drawn({"a": [], "b": ["a"], "c": ["b"], "d": ["c"]})
    await office.add("big", 300, steps)
    await served(actor, 200)
    await office.add("small", 1, steps)
    order = await served(actor, 20)
    places = [place for place, name in enumerate(order) if name == "small"]
    assert len(places) == 4
    assert all(later - earlier <= 2 for earlier, later in zip([-1, *places], places, strict=False))


@pytest.mark.parametrize("at_once", [1, 7, 20])
async def test_equal_tenants_get_equally_many(actor: Actor, office: Office, at_once: int) -> None:
    for tenant in ("one", "two", "three"):
        await office.add(tenant, 60)
    shares = Counter(await served(actor, 90, at_once))
    assert all(abs(share - 30) <= 1 for share in shares.values()), shares


@pytest.mark.parametrize("at_once", [1, 16])
async def test_a_weight_of_three_means_three_stages_for_each_of_another(
    producer: FlowProducer, actor: Actor, office: Office, at_once: int
) -> None:
    await producer.set_weight("heavy", 3)
    await office.add("heavy", 100)
    await office.add("light", 100)
    shares = Counter(await served(actor, 80, at_once))
    assert abs(shares["heavy"] - 60) <= 1, shares
    assert await producer.weights() == {"heavy": 3}
    await producer.set_weight("heavy", 1)
    assert await producer.weights() == {}
    shares = Counter(await served(actor, 20, at_once))
    assert abs(shares["heavy"] - 10) <= 2, shares


async def test_flows_without_a_tenant_take_turns_with_tenants(actor: Actor, office: Office) -> None:
    await office.add("", 50)
    await served(actor, 10)
    await office.add("named", 50)
    shares = Counter(await served(actor, 40))
    assert abs(shares["named"] - 20) <= 1, shares


async def test_newcomers_do_not_hold_up_who_was_there_before(actor: Actor, office: Office) -> None:
    await office.add("patient", 30)
    await served(actor, 3)
    order: list[str] = []
    for number in range(20):
        await office.add(f"new{number}")
        order += await served(actor, 1)
    assert order.count("patient") >= 3, order


async def test_who_comes_back_with_one_flow_at_a_time_gets_no_more_than_its_share(actor: Actor, office: Office) -> None:
    await office.add("big", 60)
    await office.add("drip")
    order: list[str] = []
    for _ in range(40):
        order += await served(actor, 1)
        if order[-1] == "drip":
            await office.add("drip")
    assert 15 <= order.count("drip") <= 21, order


async def test_a_larger_priority_goes_before_any_turn(actor: Actor, office: Office) -> None:
    await office.add("low", 10)
    await office.add("high", 5, priority=1)
    await office.add("higher", 2, priority=7)
    assert await served(actor, 8) == ["higher"] * 2 + ["high"] * 5 + ["low"]


async def test_one_claim_reaches_as_many_tenants_as_it_has_room_for(actor: Actor, office: Office) -> None:
    for number in range(60):
        await office.add(f"t{number}")
    claims = await actor.exchange_claims(actor.store.partitions[0], 50)
    assert len({claim.flow_id for claim in claims}) == 50


async def test_a_flow_with_thousands_of_ready_stages_lets_others_pass(actor: Actor, office: Office) -> None:
    await office.add("wide", 1, wide(3_000))
    await office.add("chain", 1, chain(3))
    order = await served(actor, 12, at_once=2)
    places = [place for place, name in enumerate(order) if name == "chain"]
    assert len(places) == 3
    assert places[-1] <= 8, order


@pytest.mark.parametrize("tenants", [("", ""), ("same", "same")])
async def test_so_it_does_within_one_tenant(actor: Actor, office: Office, tenants: tuple[str, str]) -> None:
    await office.add(tenants[0], 1, wide(3_000))
    await office.add(tenants[1], 1, wide(2))
    claims = await actor.exchange_claims(actor.store.partitions[0], 20)
    claims += await actor.exchange_claims(actor.store.partitions[0], 20)
    assert sorted(Counter(claim.flow_id for claim in claims).values()) == [2, 38]


async def test_stages_that_are_given_out_by_ones_come_from_all_queues_and_stages(actor: Actor, office: Office) -> None:
    await office.add("", 200, drawn({"a": []}))
    await office.add("", 200, drawn({"b": []}))
    ran: Counter[str] = Counter()
    for _ in range(100):
        (claim,) = await actor.exchange_claims(actor.store.partitions[0], 1)
        ran[claim.route] += 1
    assert len(ran) == 2, ran


async def test_nothing_is_left_in_the_order_when_all_has_run(actor: Actor, office: Office, store: Store) -> None:
    for tenant in ("", "one", "two"):
        await office.add(tenant, 5, chain(2))
    assert await Views(store).waiting(["default:s"]) == [store.partitions[0]]
    assert len(await served(actor, 30, at_once=4)) == 30
    tag = store.partitions[0]
    assert await served(actor, 1) == []
    lanes = (LANES.encode(), TENANT_LANES.encode())
    assert [key for key in await keys_like(store, f"{tag}*") if any(word in key for word in lanes)] == []
    assert await store.connection.command("ZCARD", f"{tag}{TENANTS}default") <= 4


@stage
async def cn_whose(number: int) -> int:
    return number


@pipeline
def cn_flow(number: int) -> int:
    return cn_whose(number)


async def test_flows_of_many_tenants_all_complete(producer: FlowProducer) -> None:
    flows = [await producer.add(cn_flow(number), tenant=f"t{number % 7}" if number % 7 else "") for number in range(50)]
    async with working(producer, cn_whose, concurrency=3):
        assert [await flow.result(30) for flow in flows] == list(range(50))
    assert (await flows[1].inspect()).tenant == "t1"


@pytest.mark.parametrize(
    ("tenant", "weight"), [("acme", 0), ("acme", -1), ("acme", True), ("acme", "3"), ("acme", 1e9), ("a b", 2), ("", 2)]
)
async def test_a_weight_is_refused_before_it_is_written(producer: FlowProducer, tenant: str, weight: Any) -> None:
    with pytest.raises(InvalidValue):
        await producer.set_weight(tenant, weight)
    assert await producer.weights() == {}


async def test_the_order_survives_damage_of_what_it_is_kept_in(actor: Actor, office: Office, store: Store) -> None:
    await office.add("one", 5)
    await office.add("two", 5)
    await served(actor, 2)
    await store.connection.command("SET", f"{store.partitions[0]}{TENANTS}default", msgspec.msgpack.encode("no order"))
    assert Counter(await served(actor, 8)) == {"one": 4, "two": 4}
