"""Limits that workers keep to before they claim: so many stages of a queue, or of a tenant, at once."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, RetryAfter, stage
from flowq.model.limit import LimitUse
from flowq.store.keys import PERMITS
from flowq.store.limits import Limits
from flowq.store.store import Store
from tests.conformance.scene import busy, gate, most, order
from tests.engine.waiting import in_the_end
from tests.engine.work import until, working
from tests.store.acting import Actor
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio


@stage(queue="gates")
async def cg_queued(number: int) -> int:
    await busy(queue=1)
    return number


@stage
async def cg_of(tenant: str) -> str:
    await busy(**{tenant: 1})
    return tenant


@stage(queue="gates-too")
async def cg_of_too(tenant: str) -> str:
    await busy(**{tenant: 1})
    return tenant


@stage
async def cg_ordered(tenant: str) -> str:
    order.append(tenant)
    return tenant


@stage(queue="gates")
async def cg_held(number: int) -> int:
    await gate.stop_async()
    return number


@stage(queue="gates", attempts=100)
async def cg_endless(number: int) -> int:
    """There is always one that waits, until the gate is open."""
    gate.arrived.set()
    if not gate.opened.is_set():
        raise RetryAfter(0)
    return number


EVERY = (cg_queued, cg_of, cg_of_too, cg_held)


@pytest.fixture
async def workers(producer: FlowProducer) -> AsyncIterator[None]:
    """Two, which see the limits that are set by then."""
    async with working(producer, *EVERY, concurrency=20), working(producer, *EVERY, concurrency=20):
        yield


async def held(producer: FlowProducer) -> int:
    """Of all limits."""
    return sum(state.held for state in await producer.limits())


async def test_of_a_queue_no_more_stages_run_than_its_limit_says(producer: FlowProducer) -> None:
    await producer.set_limit("queue:gates", concurrency=3)
    async with working(producer, *EVERY, concurrency=20), working(producer, *EVERY, concurrency=20):
        flows = [await producer.add(cg_queued.flow(number)) for number in range(60)]
        assert [await flow.result(50) for flow in flows] == list(range(60))
        assert 1 <= most["queue"] <= 3
    assert await held(producer) == 0


async def test_of_a_tenant_no_more_stages_run_than_its_limit_says_and_others_go_on(producer: FlowProducer) -> None:
    await producer.set_limit("tenant:small", concurrency=2)
    async with working(producer, *EVERY, concurrency=20), working(producer, *EVERY, concurrency=20):
        flows = [await producer.add(cg_of.flow("small"), tenant="small") for _ in range(30)]
        flows += [await producer.add(cg_of.flow("free"), tenant="free") for _ in range(30)]
        assert [await flow.result(50) for flow in flows] == ["small"] * 30 + ["free"] * 30
        assert 1 <= most["small"] <= 2
    assert await held(producer) == 0


async def test_the_limit_of_a_tenant_counts_its_stages_of_all_queues(producer: FlowProducer) -> None:
    await producer.set_limit("tenant:small", concurrency=2)
    async with working(producer, *EVERY, concurrency=20):
        flows = [await producer.add(one.flow("small"), tenant="small") for _ in range(20) for one in (cg_of, cg_of_too)]
        assert [await flow.result(50) for flow in flows] == ["small"] * 40
        assert 1 <= most["small"] <= 2
    assert await held(producer) == 0


@pytest.mark.parametrize("priorities", [1, 12], ids=["of one priority", "of twelve"])
async def test_tenants_at_their_limits_hide_nobody(producer: FlowProducer, priorities: int) -> None:
    """Twelve wait in vain, of each priority one, and a slot is free."""
    for number in range(12):
        await producer.set_limit(f"tenant:t{number}", concurrency=1)
    async with working(producer, cg_held, cg_ordered, concurrency=13):
        running = [await producer.add(cg_held.flow(number), tenant=f"t{number}") for number in range(12)]
        await in_the_end(lambda: _run(running))
        waiting = [
            await producer.add(cg_ordered.flow(f"t{number}"), tenant=f"t{number}", priority=number % priorities)
            for number in range(12)
        ]
        assert await (await producer.add(cg_ordered.flow("free"), tenant="zz")).result(30) == "free"
        assert await (await producer.add(cg_ordered.flow("none"))).result(30) == "none"
        assert order == ["free", "none"]
        gate.opened.set()
        assert [await flow.result(30) for flow in (*running, *waiting)] == [*range(12), *(f"t{number}" for number in range(12))]


async def _run(flows: Sequence[FlowHandle[Any]]) -> bool:
    return all([(await flow.inspect()).state == "running" for flow in flows])


async def test_tenants_with_limits_are_served_in_turns(producer: FlowProducer) -> None:
    for number in range(20):
        await producer.set_limit(f"tenant:t{number}", concurrency=1)
    names = [f"t{number}" for number in range(20)]
    ids = _ids_of_one_partition(producer)
    flows = [await producer.add(cg_ordered.flow(name), tenant=name, id=ids.pop()) for _ in range(5) for name in names]
    async with working(producer, cg_ordered, concurrency=1):
        assert [await flow.result(50) for flow in flows] == 5 * names
    turns = [order[first : first + 20] for first in range(0, 100, 20)]
    assert all(len(set(turn)) >= 15 for turn in turns), turns


@pytest.mark.parametrize("limit", [1, 5])
async def test_tenants_with_limits_are_served_by_their_weights(producer: FlowProducer, limit: int) -> None:
    await producer.set_weight("heavy", 3)
    for name in ("heavy", "light"):
        await producer.set_limit(f"tenant:{name}", concurrency=limit)
    ids = _ids_of_one_partition(producer)
    flows = [
        await producer.add(cg_ordered.flow(name), tenant=name, id=ids.pop()) for _ in range(80) for name in ("heavy", "light")
    ]
    async with working(producer, cg_ordered, concurrency=1):
        for flow in flows:
            await flow.result(50)
    assert 50 <= order[:80].count("heavy") <= 70, order


def _ids_of_one_partition(producer: FlowProducer) -> list[str]:
    """Turns are those of a partition."""
    keys = producer._open.store.keys
    return [f"f{number}" for number in range(1_000) if keys.tag_of(f"f{number}") == keys.tags[0]]


async def test_a_stage_that_waits_for_its_queues_limit_says_so(producer: FlowProducer) -> None:
    await producer.set_limit("queue:gates", concurrency=1)
    async with working(producer, *EVERY):
        first = await producer.add(cg_held.flow(1))
        await gate.until_arrived()
        second = await producer.add(cg_held.flow(2))
        snapshot = await until(second, lambda flow: flow.graph[0].reason is not None and flow.graph[0].reason.code != "busy")
        reason = snapshot.graph[0].reason
        assert reason is not None
        assert (reason.code, reason.on) == ("queue_limit", ("queue:gates",))
        assert reason.sentence == "queue gates is at its limit: 1 at once"
        gate.opened.set()
        assert [await flow.result(30) for flow in (first, second)] == [1, 2]


async def test_a_stage_that_waits_for_its_tenants_limit_says_so(producer: FlowProducer) -> None:
    await producer.set_limit("tenant:acme", concurrency=1)
    async with working(producer, *EVERY):
        first = await producer.add(cg_held.flow(1), tenant="acme")
        await gate.until_arrived()
        second = await producer.add(cg_held.flow(2), tenant="acme")
        snapshot = await until(second, lambda flow: flow.graph[0].reason is not None and flow.graph[0].reason.code != "busy")
        reason = snapshot.graph[0].reason
        assert reason is not None
        assert (reason.code, reason.sentence) == ("tenant_limit", "tenant acme is at its limit: 1 at once")
        gate.opened.set()
        assert [await flow.result(30) for flow in (first, second)] == [1, 2]


async def test_who_got_no_permit_has_its_turn_before_those_that_have_more_to_do(producer: FlowProducer) -> None:
    await producer.set_limit("queue:gates", concurrency=2)
    limits = Limits(producer._open.store)
    assert await limits.take("queue:gates", "one", 60_000, ["a1", "a2", "a3"], "one") == 2
    assert await limits.take("queue:gates", "two", 60_000, ["b1", "b2"], "two") == 0
    assert await limits.take("queue:gates", "one", 60_000, ["a1", "a2"], "one") == 1, "the other is taken back"
    assert await limits.take("queue:gates", "one", 60_000, ["a4"]) == 0, "it is not for who has one already"
    assert await limits.take("queue:gates", "two", 60_000, ["b1", "b2"], "two") == 1
    assert await limits.take("queue:gates", "one", 60_000, ["a1"], "one") == 1, "nobody is hungry any more"


async def test_who_got_no_permit_is_told_when_one_is_returned(producer: FlowProducer) -> None:
    backend = producer._open
    await producer.set_limit("queue:gates", concurrency=1)
    limits = Limits(backend.store)
    told: list[str] = []
    undo = backend.wakeups.on_permit("queue:gates", "two", lambda: told.append("two"))

    async def is_told() -> bool:
        """Once more, because nobody says since when the server is listened to."""
        assert await limits.take("queue:gates", "one", 60_000, ["a"], "one") == 1
        assert await limits.take("queue:gates", "two", 60_000, ["b"], "two") == 0
        await limits.give_back(LimitUse("queue:gates"), "one", ["a"])
        assert await limits.take("queue:gates", "two", 60_000, ["b"], "two") == 1
        await limits.give_back(LimitUse("queue:gates"), "two", ["b"])
        return bool(told)

    await in_the_end(is_told)
    undo()


async def test_a_worker_with_much_to_do_leaves_permits_to_another(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They know different stages of a queue; who has permits would keep them for as long as it has work."""
    monkeypatch.setattr("flowq.engine.exchange.permits.TURN_SECONDS", 0)
    await producer.set_limit("queue:gates", concurrency=1)
    async with working(producer, cg_endless), working(producer, cg_queued):
        many = [await producer.add(cg_endless.flow(number)) for number in range(40)]
        await gate.until_arrived()
        assert await (await producer.add(cg_queued.flow(7))).result(30) == 7
        gate.opened.set()
        assert [await flow.result(30) for flow in many] == list(range(40))


async def test_without_permits_nothing_of_a_gated_tenant_is_handed_out(producer: FlowProducer) -> None:
    store: Store = producer._open.store
    await producer.set_limit("tenant:gated", concurrency=5)
    actor = await Actor(store).begin()
    tag = store.partitions[0]
    ids = [f"g{number}" for number in range(60) if store.keys.tag_of(f"g{number}") == tag][:4]
    await store.submit([(flow_id, one_stage().with_options(tenant="gated")) for flow_id in ids])
    answer = await actor.exchange(tag=tag, capacity=4)
    assert answer is not None
    assert (answer.claims, answer.gated) == ([], [("gated", "default")])
    answer = await actor.exchange(tag=tag, capacity=4, permits={"gated": 3})
    assert answer is not None
    assert (len(answer.claims), answer.gated, answer.permitted) == (
        3,
        [("gated", "default")],
        {0: "gated", 1: "gated", 2: "gated"},
    )
    # The reply was lost: the same permits are used.
    again = await actor.exchange(tag=tag, capacity=4, permits={"gated": 3}, seq=actor.seq, nonce=actor.nonce)
    assert again is not None
    assert (len(again.claims), again.permitted) == (3, {0: "gated", 1: "gated", 2: "gated"})
    await producer.remove_limit("tenant:gated")
    answer = await actor.exchange(tag=tag, capacity=4)
    assert answer is not None
    assert (len(answer.claims), answer.gated) == (1, [])


async def test_a_tenant_that_was_shut_out_for_long_is_served_soon_after_its_gate_opens(producer: FlowProducer) -> None:
    store: Store = producer._open.store
    await producer.set_limit("tenant:gated", concurrency=5)
    actor = await Actor(store).begin()
    tag = store.partitions[0]
    ids = [f"g{number}" for number in range(900) if store.keys.tag_of(f"g{number}") == tag][:100]
    flows = [(flow_id, one_stage().with_options(tenant="gated" if place < 2 else "free")) for place, flow_id in enumerate(ids)]
    await store.submit(flows[:2])
    for _ in range(40):
        answer = await actor.exchange(tag=tag, capacity=1)
        assert answer is not None
        assert answer.claims == []
    await store.submit(flows[2:])
    order: list[bool] = []
    for _ in range(4):
        answer = await actor.exchange(tag=tag, capacity=1, permits={"gated": 1})
        assert answer is not None
        order += [claim.flow_id in ids[:2] for claim in answer.claims]
    assert order.count(True) == 2, order


async def test_permits_live_as_long_as_their_worker_though_its_lease_is_short(producer: FlowProducer) -> None:
    await producer.set_limit("queue:gates", concurrency=1)
    store: Store = producer._open.store
    asked = ("ZRANGE", store.keys.limit("queue:gates") + PERMITS, 0, -1, "WITHSCORES")
    async with working(producer, *EVERY, lease=1):
        flow = await producer.add(cg_held.flow(1))
        await gate.until_arrived()
        first = await store.connection.command(*asked)

        async def renewed() -> list[bytes] | None:
            found = await store.connection.command(*asked)
            return None if found == first else found

        assert len(first) == len(await in_the_end(renewed)) > 0
        gate.opened.set()
        assert await flow.result(30) == 1


async def test_permits_of_a_worker_that_vanished_are_not_lent_again_before_its_lease_is_over(producer: FlowProducer) -> None:
    await producer.set_limit("queue:gates", concurrency=2)
    limits = Limits(producer._open.store)
    assert await limits.take("queue:gates", "vanished", 300, ["v1", "v2", "v3"]) == 2
    assert await limits.take("queue:gates", "vanished", 300, ["v1", "v2"]) == 2  # asked again: the same ones
    async with working(producer, *EVERY):
        flow = await producer.add(cg_queued.flow(7))
        assert await flow.result(30) == 7


async def test_a_limit_that_is_set_while_workers_run_is_kept_from_then_on(producer: FlowProducer, workers: None) -> None:
    assert await (await producer.add(cg_queued.flow(0))).result(30) == 0
    await producer.set_limit("tenant:late", concurrency=1)
    flows = [await producer.add(cg_of.flow("late"), tenant="late") for _ in range(10)]
    assert [await flow.result(50) for flow in flows] == ["late"] * 10
    assert most["late"] == 1
