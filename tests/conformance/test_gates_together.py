"""Limits of a queue and of a tenant on the same stages, and limits that are set while stages run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest

from flowq import FlowProducer, stage
from flowq.engine.capacity.taken import Taken
from flowq.engine.duties.hints import Hints
from flowq.engine.exchange.gates import Gates
from flowq.engine.run.limiter import Limiter
from flowq.errors import ServerUnreachable
from flowq.model.exchanged import Exchanged
from flowq.model.limit import LimitUse
from flowq.model.outcome import Claim
from flowq.model.snapshot import FlowSnapshot
from flowq.store.keys import PERMITS
from flowq.store.limits import Granted, Limits, Waits
from flowq.store.wants import Wants
from tests.conformance.scene import busy, gate, order
from tests.engine.waiting import in_the_end
from tests.engine.work import until, working
from tests.store.acting import Actor

pytestmark = pytest.mark.anyio


@stage(queue="gates-together")
async def gt_ordered(tenant: str) -> str:
    order.append(tenant)
    await busy(together=1)
    return tenant


@pytest.mark.parametrize("limit", [1, 3])
async def test_a_tenant_with_a_limit_has_its_turn_where_its_queue_has_one_too(producer: FlowProducer, limit: int) -> None:
    """Permits of the queue went to the crowd while those of the tenant were asked for, and the other way round, for ever."""
    await producer.set_limit("queue:gates-together", concurrency=limit)
    await producer.set_limit("tenant:late", concurrency=5)
    keys = producer._open.store.keys
    ids = [f"f{number}" for number in range(1_000) if keys.tag_of(f"f{number}") == keys.tags[0]]  # turns are those of a partition
    flows = [await producer.add(gt_ordered.flow("crowd"), tenant="crowd", id=ids.pop()) for _ in range(100)]
    flows.append(await producer.add(gt_ordered.flow("late"), tenant="late", id=ids.pop()))
    async with working(producer, gt_ordered, concurrency=10):
        assert [await flow.result(50) for flow in flows] == ["crowd"] * 100 + ["late"]
    assert order.index("late") <= 20


@stage(queue="gates-together")
async def gt_held(number: int) -> int:
    await gate.stop_async()
    await busy(afterwards=1)
    return number


@pytest.mark.parametrize("name", ["queue:gates-together", "tenant:late"])
async def test_what_runs_when_a_limit_is_set_counts(producer: FlowProducer, name: str) -> None:
    """Throttled while four ran, six ran: nobody had a permit for the four, nor after the limit was removed and set again."""

    async def are_held() -> bool:
        return [state.held for state in await producer.limits()] == [4]

    async with working(producer, gt_held, concurrency=20):
        flows = [await producer.add(gt_held.flow(number), tenant="late") for number in range(4)]
        for flow in flows:
            await until(flow, lambda snapshot: snapshot.state == "running")
        await producer.set_limit(name, concurrency=2)
        await in_the_end(are_held)
        await producer.remove_limit(name)
        await producer.set_limit(name, concurrency=2)
        await in_the_end(are_held)
        more = [await producer.add(gt_held.flow(number), tenant="late") for number in range(4, 12)]
        for flow in more:
            await until(flow, _is_at_a_limit)
        gate.opened.set()
        assert [await flow.result(30) for flow in (*flows, *more)] == list(range(12))
    assert [state.held for state in await producer.limits()] == [0]


def _is_at_a_limit(snapshot: FlowSnapshot) -> bool:
    reason = snapshot.graph[0].reason
    return reason is not None and reason.code in ("queue_limit", "tenant_limit")


async def test_where_a_queue_and_all_its_tenants_have_limits_nothing_is_stuck(producer: FlowProducer) -> None:
    """Who had no permit of the queue did not see that it lacked one, because it had none of the tenants either."""
    await producer.set_limit("queue:gates-together", concurrency=1)
    for name in ("one", "other"):
        await producer.set_limit(f"tenant:{name}", concurrency=1)
    async with working(producer, gt_ordered, concurrency=4), working(producer, gt_ordered, concurrency=4):
        flows = [await producer.add(gt_ordered.flow(name), tenant=name) for _ in range(20) for name in ("one", "other")]
        assert [await flow.result(30) for flow in flows] == ["one", "other"] * 20


async def test_a_short_lease_does_not_end_the_permits_of_others(producer: FlowProducer) -> None:
    """All permits of a limit stand in one key, and whoever came last said how long that lives."""
    await producer.set_limit("queue:gates-together", concurrency=3)
    store = producer._open.store
    limits, permits = Limits(store), store.keys.limit("queue:gates-together") + PERMITS
    assert await limits.take("queue:gates-together", "long", 60_000, ["a"]) == 1
    assert await limits.take("queue:gates-together", "short", 200, ["b"]) == 1
    await limits.extend(200, ["short"])
    assert await store.connection.command("PTTL", permits) > 60_000


async def test_what_a_call_brings_that_began_before_a_limit_was_seen_counts(producer: FlowProducer) -> None:
    store, claims = producer._open.store, list[Claim]()
    actor = await Actor(store).begin()
    gates = Gates(store, Limiter(store, actor.id), actor.id, lambda _: None, Hints(store.partitions), lambda: claims)
    flow = await producer.add(gt_ordered.flow("one"))
    tag = store.keys.tag_of(flow.id)

    async def claim(wants: Sequence[Wants], capacity: int, permits: Mapping[str, int]) -> Exchanged | None:
        await producer.set_limit("queue:gates-together", concurrency=2)
        await gates.refresh()
        return await store.exchange(tag, actor.id, 0, 1, "n1", [], [], wants, capacity, parks=False)

    answer, _ = await gates.through(tag, Taken(1, [Wants(-1, ("gates-together:gt_ordered",))]), claim)
    assert answer is not None
    claims += answer.claims
    assert len(claims) == 1
    await gates.run_once()
    assert [state.held for state in await producer.limits()] == [1]


async def test_a_count_that_failed_is_made_again_and_nothing_is_left_of_it(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, claims = producer._open.store, list[Claim]()
    actor = await Actor(store).begin()
    gates = Gates(store, Limiter(store, actor.id), actor.id, lambda _: None, Hints(store.partitions), lambda: claims)
    await producer.add(gt_ordered.flow("one"))
    claims.append(await actor.claim_one(routes=("gates-together:gt_ordered",)))
    await producer.set_limit("queue:gates-together", concurrency=2)
    with monkeypatch.context() as broken:

        async def refuses(*_: object) -> bool:
            raise ServerUnreachable("here", "it is gone")

        broken.setattr(Limits, "adopt", refuses)
        with pytest.raises(ServerUnreachable):
            await gates.refresh()
    for _ in range(2):
        await gates.refresh()
        assert [state.held for state in await producer.limits()] == [1]
        assert await producer.remove_limit("queue:gates-together")
        await gates.refresh()
        await producer.set_limit("queue:gates-together", concurrency=2)
    await gates.refresh()
    assert len(gates._adopted) == 1
    gates.ended(claims.pop())
    assert not gates._adopted

    async def is_returned() -> bool:
        return [state.held for state in await producer.limits()] == [0]

    await in_the_end(is_returned)


async def test_who_waits_where_places_are_freed_asks_again_soon(producer: FlowProducer) -> None:
    """A place that was free for a moment stood empty for a quarter of a second."""
    await producer.set_limit("turns", concurrency=1)
    limits = Limits(producer._open.store)

    async def ask(permit: str) -> Granted | Waits:
        return await limits.acquire(LimitUse("turns"), permit, "h", 60_000)

    assert isinstance(await ask("a"), Granted)
    waits = [await ask("b"), await ask("c")]
    assert [isinstance(one, Waits) and one.at - one.now for one in waits] == [250, 250]
    await limits.give_back(LimitUse("turns"), "h", ["a"])
    behind = await ask("c")
    assert isinstance(behind, Waits)
    assert behind.at - behind.now == 40
    assert isinstance(await ask("b"), Granted)
