"""Where idle processes wait to be woken: nobody who is gone stays there for long, and a push does not pay for those who do."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import pytest

from flowq.store.store import Store
from flowq.store.wants import Wants
from tests.store.acting import Actor, in_one_partition
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio

ROUTES = ("default:a", "default:a!")


async def parked(store: Store) -> list[Sequence[bytes]]:
    tag = store.partitions[0]
    return [sorted(await store.connection.command("SMEMBERS", f"{tag}:w:{route}")) for route in ROUTES]


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
    tag = store.partitions[0]
    keys = [f"{tag}:w:{route}" for route in ROUTES]
    await park(actor)
    assert all([0 < await store.connection.command("PTTL", key) <= 86_400_000 for key in keys])
    await store.connection.commands(*(("PEXPIRE", key, 50_000) for key in keys))
    await park(await Actor(store).begin())
    assert all([0 < await store.connection.command("PTTL", key) <= 50_000 for key in keys]), "a newcomer keeps nobody there"


async def test_a_push_does_not_ask_all_processes_of_a_lost_host(store: Store) -> None:
    (flow_id,) = in_one_partition(store, 1)
    key = f"{store.partitions[0]}:w:default:a"
    await store.connection.command("SADD", key, *(f"lost.{number}" for number in range(1_000)))
    await store.submit([(flow_id, one_stage())])
    assert await store.connection.command("SCARD", key) == 900
    await store.connection.command("DEL", key)
