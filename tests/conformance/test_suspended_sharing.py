"""Stages that wait, among tenants and under limits: what they hold meanwhile, and what their coming back costs."""

from __future__ import annotations

from collections import Counter

import pytest

from flowq import FlowProducer, context, limit, stage
from flowq.model.outcome import Wait
from flowq.model.snapshot import Reason
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views
from tests.conformance.scene import gate, ran
from tests.engine.work import until, working
from tests.store.acting import Actor, in_one_partition, suspended
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio

GO = Wait("signal", "go")


@stage(queue="desk", limits=[limit("model")])
async def cw_asks(number: int) -> int:
    ran["asks"] += 1
    async with limit("inner"):
        return number + await context().wait_for_signal("more", int)


@stage(queue="desk", limits=[limit("model")])
async def cw_quick(number: int) -> int:
    async with limit("inner"):
        return number


@stage
async def cw_holds() -> None:
    context().progress(0.5, "half of it")
    async with limit("inner"):
        await gate.stop_async()


@stage
async def cw_inner() -> str:
    return "inner"


@stage
async def cw_outer(tenant: str) -> str:
    return await context().spawn(cw_inner.flow().with_options(tenant=tenant) if tenant else cw_inner.flow())


async def test_a_suspended_stage_holds_no_permit_of_any_limit_and_asks_for_them_again(producer: FlowProducer) -> None:
    for name in ("queue:desk", "tenant:acme", "model", "inner"):
        await producer.set_limit(name, concurrency=1)
    async with working(producer, cw_asks, cw_quick, concurrency=1):
        waiting = await producer.add(cw_asks.flow(1).with_options(tenant="acme"))
        await until(waiting, lambda snapshot: snapshot.state == "suspended")
        others = [await producer.add(cw_quick.flow(number).with_options(tenant="acme")) for number in range(3)]
        assert [await other.result(30) for other in others] == [0, 1, 2]
        assert await waiting.signal("more", 1)
        assert await waiting.result(30) == 2
        assert ran["asks"] == 2
    assert [state.name for state in await producer.limits() if state.held] == []


async def test_a_resumed_stage_stands_first_in_its_tenants_lane_and_its_turn_is_charged_once(
    producer: FlowProducer,
) -> None:
    store = producer._open.store
    actor, ids = await Actor(store).begin(), in_one_partition(store, 80)
    tenant_of = {flow_id: "one" if number < 40 else "two" for number, flow_id in enumerate(ids)}
    await store.submit([(flow_id, one_stage().with_options(tenant=tenant)) for flow_id, tenant in tenant_of.items()])
    assert await Suspensions(store).signal(ids[0], "go", b"\x01") == "signalled"
    order: list[str] = []
    suspensions = 0
    while len(order) < 40:
        (claim,) = await actor.exchange_claims(store.partitions[0], 1)
        if claim.flow_id == ids[0] and suspensions < 10:
            suspensions += 1  # what it waits for is there, so it is resumed at once
            assert await actor.report(suspended(claim, GO)) == ""
        else:
            assert await actor.complete(claim) == ""
            order.append(claim.flow_id)
    assert suspensions == 10
    shares = Counter(tenant_of[flow_id] for flow_id in order)
    assert abs(shares["one"] - shares["two"]) <= 2, shares
    assert next(flow_id for flow_id in order if tenant_of[flow_id] == "one") == ids[0]


@pytest.mark.parametrize(("given", "expected"), [("", "acme"), ("other", "other")])
async def test_a_spawned_flow_is_its_parents_tenants_unless_another_is_given(
    producer: FlowProducer, given: str, expected: str
) -> None:
    async with working(producer, cw_outer, cw_inner):
        flow = await producer.add(cw_outer.flow(given).with_options(tenant="acme"))
        assert await flow.result(30) == "inner"
        (child,) = (await flow.inspect()).spawned
        assert child.tenant == expected
        assert (await Views(producer._open.store).head(child.id)).tenant == expected, "whose lane its stages stand in"


async def test_a_stage_that_waits_for_a_permit_says_so(producer: FlowProducer) -> None:
    await producer.set_limit("inner", concurrency=1)
    async with working(producer, cw_holds, concurrency=2):
        first = await producer.add(cw_holds.flow())
        await gate.until_arrived()
        second = await producer.add(cw_holds.flow())
        shown = await until(second, lambda snapshot: snapshot.graph[0].reason is not None and snapshot.graph[0].progress == 0.5)
        assert shown.graph[0].reason == Reason("rate_limited", "waits for a free place of limit inner", ("inner",))
        assert shown.graph[0].progress == 0.5
        gate.opened.set()
        assert [await flow.result(30) for flow in (first, second)] == [None, None]
