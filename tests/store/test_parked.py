"""Where idle processes wait to be woken: nobody who is gone stays there for long, and a push does not pay for those who do."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from flowq.model.dedup import Dedup
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.store.store import Store
from flowq.store.wants import Wants
from tests.store.acting import Actor, in_one_partition
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio

ROUTES = ("default:a", "default:a!")


async def parked(store: Store) -> list[Sequence[bytes]]:
    """Who waits for each route."""
    found: list[Sequence[bytes]] = []
    for route in ROUTES:
        crews = await store.connection.command("ZRANGE", key_of(store, route), 0, -1)
        found.append(sorted([holder for crew in crews for holder in await members(store, crew)]))
    return found


def key_of(store: Store, name: str) -> str:
    return f"{store.partitions[0]}:w:{name}"


async def members(store: Store, crew: bytes) -> set[bytes]:
    return await store.connection.command("SMEMBERS", key_of(store, crew.decode()))


async def crews_of(store: Store, route: str) -> list[str]:
    return [crew.decode() for crew in await store.connection.command("ZRANGE", key_of(store, route), 0, -1)]


async def park(actor: Actor) -> None:
    """Asks in the first partition for work, also for suspects, when there is none."""
    actor.seq += 1
    wants = [Wants(-1, ROUTES[:1], ROUTES[1:])]
    answer = await actor.store.exchange(actor.store.partitions[0], actor.id, 0, actor.seq, "n", (), (), wants, 5, parks=True)
    assert answer is not None
    assert not answer.claims


async def test_who_was_rescued_or_has_stopped_is_parked_nowhere_and_others_stay(store: Store, actor: Actor) -> None:
    gone = await Actor(store, "gone").begin()
    await park(actor)
    await park(gone)
    assert await parked(store) == [sorted([actor.id.encode(), b"gone"])] * 2
    await store.rescue(store.partitions[0], gone.id, "its worker has stopped", is_crash=False)
    assert await parked(store) == [[actor.id.encode()]] * 2
    await store.rescue(store.partitions[0], actor.id, "its worker has stopped", is_crash=False)
    assert not [key for route in ROUTES for key in await crews_of(store, route)], "nothing is left when the last one has gone"


@pytest.mark.parametrize(
    "info",
    [None, b"", b"\xc1", *map(msgspec.msgpack.encode, (7, [], ["n", [], [], 5], ["n", [], [], [[], 5, None, "default:b"]]))],
)
async def test_whatever_a_dead_process_has_said_of_itself_its_stages_are_rescued(
    store: Store, actor: Actor, info: bytes | None
) -> None:
    (flow_id,) = in_one_partition(store, 1)
    tag = store.partitions[0]
    await store.submit([(flow_id, one_stage())])
    assert len(await actor.exchange_claims(tag, 1)) == 1
    key = f"{tag}:h:{actor.id}"
    await store.connection.command(*(("HDEL", key, "info") if info is None else ("HSET", key, "info", info)))
    assert await store.rescue(tag, actor.id, "gone", is_crash=False) == 1
    assert await store.lease_of(tag, actor.id) is None


async def test_where_idle_processes_wait_ends_by_itself_for_those_whom_nobody_rescued(store: Store, actor: Actor) -> None:
    await park(actor)
    (crew,) = await crews_of(store, ROUTES[0])
    key = key_of(store, crew)
    assert 0 < await store.connection.command("PTTL", key) <= 86_400_000
    assert all([0 < await store.connection.command("PTTL", key_of(store, route)) <= 180_000 for route in ROUTES])
    await store.connection.command("PEXPIRE", key, 50_000)
    await park(await Actor(store).begin())
    assert 0 < await store.connection.command("PTTL", key) <= 50_000, "a newcomer keeps nobody there"


async def test_a_route_forgets_who_served_it_once(store: Store, actor: Actor) -> None:
    long_ago = 1_000
    await store.connection.command("ZADD", key_of(store, ROUTES[0]), long_ago, "another")
    await park(actor)
    (crew,) = await crews_of(store, ROUTES[0])
    assert await members(store, crew.encode()) == {actor.id.encode()}


async def test_who_waits_is_found_again_when_the_routes_were_forgotten(store: Store, actor: Actor) -> None:
    await park(actor)
    await store.connection.command("DEL", *(key_of(store, route) for route in ROUTES))
    await park(actor)
    assert await parked(store) == [[actor.id.encode()]] * 2


@pytest.mark.parametrize("others", [5, 60])
async def test_a_push_wakes_who_serves_its_route_among_others(store: Store, actor: Actor, others: int) -> None:
    """Also where others, of whom nobody waits, serve it as well."""
    (flow_id,) = in_one_partition(store, 1)
    await park(actor)
    key = key_of(store, ROUTES[0])
    crews = [(10**13 + number, f"crew-{number}") for number in range(others)]
    await store.connection.command("ZADD", key, *(part for crew in crews for part in crew))
    await store.submit([(flow_id, one_stage())])
    assert await parked(store) == [[], []]


async def test_a_push_does_not_ask_all_processes_of_a_lost_host(store: Store) -> None:
    (flow_id,) = in_one_partition(store, 1)
    await store.connection.command("ZADD", key_of(store, ROUTES[0]), 1, "crew")
    await store.connection.command("SADD", key_of(store, "crew"), *(f"lost.{number}" for number in range(1_000)))
    await store.submit([(flow_id, one_stage())])
    assert await store.connection.command("SCARD", key_of(store, "crew")) == 900
    await store.connection.command("DEL", key_of(store, "crew"), key_of(store, ROUTES[0]))


async def test_who_ends_a_flow_for_which_another_waits_is_told_to_ask_at_once(store: Store, actor: Actor) -> None:
    """What waited under the key is due from now on: nobody is woken for it, so who ended the one before has to ask again."""
    first, kept = in_one_partition(store, 2)
    tag = store.partitions[0]

    def spec(number: int) -> FlowSpec[object]:
        made = one_stage(inputs=number)
        return FlowSpec(made.plan, {}, made.inputs, options=FlowOptions(dedup=Dedup("k", keep_last=True)))

    added = [(await store.submit([(flow_id, spec(number))]))[0].addition for number, flow_id in enumerate((first, kept))]
    assert added == ["added", "kept"]
    (claim,) = await actor.exchange_claims(tag, 1)
    answer = await actor.exchange(await actor.completed(claim), tag=tag, capacity=1, parks=True)
    assert answer is not None
    assert answer.claims == []
    assert 0 < answer.next_due_at <= answer.now
    assert [one.flow_id for one in await actor.exchange_claims(tag, 1)] == [kept]
