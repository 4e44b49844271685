"""Flows that have begun go first, and others are not forgotten: where there are bounds, suspects, many priorities."""

from __future__ import annotations

import pytest

from flowq.model.outcome import Claim
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.store.keys import WEIGHTS
from flowq.store.store import Store
from flowq.store.wants import Wants
from tests.store.acting import Actor, in_one_partition, snapshots
from tests.store.graphs import drawn, one_stage

pytestmark = pytest.mark.anyio

CALLS = 300
LONG = {f"a-{number}": [f"a-{number - 1}"] if number else [] for number in range(60)}


class Taker:
    """A process that completes what it has claimed, and claims again, in one call after the other."""

    def __init__(self, store: Store, actor: Actor) -> None:
        self.store, self.actor = store, actor
        self.claims: list[Claim] = []
        self.bound: set[str] = set()

    async def until_claimed(self, wants: Wants, *flow_ids: str, capacity: int = 1) -> None:
        """Fails if one of these flows never has its turn."""
        missing, tag = set(flow_ids), self.store.partitions[0]
        for call in range(CALLS):
            outcomes = [await self.actor.completed(claim) for claim in self.claims]
            self.actor.seq += 1
            answer = await self.store.exchange(
                tag, self.actor.id, 0, self.actor.seq, str(call), outcomes, (), [wants], capacity, parks=False
            )
            assert answer is not None
            self.claims = answer.claims
            self.bound.update(answer.bound)
            missing.difference_update(claim.flow_id for claim in self.claims)
            if not missing:
                return
        raise AssertionError(f"{missing} never had a turn")


@pytest.fixture
async def taker(store: Store, actor: Actor) -> Taker:
    return Taker(store, actor)


async def with_long_flows(taker: Taker, count: int = 10) -> str:
    """Flows that have begun, with more stages than a test claims; and the id of one that is added after them."""
    *names, late = in_one_partition(taker.store, count + 1)
    await taker.store.submit([(name, drawn(LONG)) for name in names])
    taker.claims = await taker.actor.exchange_claims(taker.store.partitions[0], count)
    await taker.store.submit([(late, one_stage())])
    return late


@pytest.mark.parametrize(("bound", "capacity"), [(-1, 1), (-1, 10), (1, 10), (2, 2), (5, 10)])
async def test_a_flow_that_has_not_begun_has_its_turn_whatever_the_bounds(taker: Taker, bound: int, capacity: int) -> None:
    late = await with_long_flows(taker)
    await taker.until_claimed(Wants(bound, ("default:a",)), late, capacity=capacity)


@pytest.mark.parametrize(("bound", "capacity"), [(1, 10), (2, 10), (5, 10)])
async def test_nor_do_others_take_all_that_a_bound_leaves(taker: Taker, bound: int, capacity: int) -> None:
    begun, *others = in_one_partition(taker.store, 401)
    await taker.store.submit([(begun, drawn(LONG))])
    taker.claims = await taker.actor.exchange_claims(taker.store.partitions[0], 1)
    await taker.store.submit([(name, one_stage()) for name in others])
    for _ in range(5):
        await taker.until_claimed(Wants(bound, ("default:a",)), begun, capacity=capacity)
    (flow,) = [await snapshots(taker.store).snapshot(others[-1])]
    assert flow.state == "ready", "the others have run before"


@pytest.mark.parametrize("gated", range(6, 10))
async def test_it_has_however_many_lanes_stand_above(taker: Taker, gated: int) -> None:
    """They are read in pages, and those of flows that have begun and of others may stand on two."""
    tag = taker.store.partitions[0]
    late = await with_long_flows(taker)
    await taker.store.connection.command("HSET", tag + WEIGHTS, "=tenant", "1")
    names = in_one_partition(taker.store, 40)[-gated:]
    for priority, name in enumerate(names, 1):
        spec = one_stage()
        gated_one = FlowSpec(spec.plan, {}, spec.inputs, options=FlowOptions(priority=priority, tenant="tenant"))
        await taker.store.submit([(name, gated_one)])
    await taker.until_claimed(Wants(-1, ("default:a",)), late)


async def test_a_suspect_among_what_a_process_serves_keeps_nobody_waiting(taker: Taker, store: Store) -> None:
    """Who runs one stage at a time runs suspects as any others."""
    suspect, other, *crowd = in_one_partition(store, 402)
    dead = await Actor(store, "dead", ("b",)).begin()
    await store.submit([(suspect, drawn({"b": []})), (other, drawn({"c": []})), *((name, one_stage()) for name in crowd)])
    assert await dead.claim_one_of(suspect)
    assert await store.rescue(store.partitions[0], dead.id, "it is gone", is_crash=True) == 1
    await taker.until_claimed(Wants(-1, ("default:a", "default:b!", "default:c")), suspect, other)


async def test_without_bounds_nothing_is_said_to_wait_for_them(taker: Taker) -> None:
    late = await with_long_flows(taker)
    await taker.until_claimed(Wants(-1, ("default:a",)), late)
    assert taker.bound == set()
