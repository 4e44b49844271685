"""Who of a flow waits for a signal: many, of which most went on long ago."""

from __future__ import annotations

import msgspec
import pytest

from flowq.model.outcome import Claim, Wait
from flowq.store.keys import DUE
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from tests.store.acting import Actor, snapshots, suspended
from tests.store.graphs import wide

pytestmark = pytest.mark.anyio

NOTED_MAX = 500
GO, IN_AN_HOUR, LATER = Wait("signal", "go"), Wait("sleep", "", "#0", 3_600_000), Wait("sleep", "", "#1", 3_600_000)


async def claimed(store: Store, actor: Actor, width: int) -> list[Claim]:
    """All the stages of a flow, running."""
    await store.submit([("wide", wide(width))])
    return await claims_of(actor, width)


async def claims_of(actor: Actor, count: int) -> list[Claim]:
    claims: list[Claim] = []
    while len(claims) < count:
        claims += await actor.claim(count - len(claims))
    return claims


async def go_on(store: Store, actor: Actor, claims: list[Claim]) -> list[Claim]:
    """The stages that waited, resumed because their time has come."""
    key = store.keys.tag_of("wide") + DUE
    await store.connection.command("ZADD", key, *(part for claim in claims for part in (1, f"{claim.index}:wide")))
    return await claims_of(actor, len(claims))


async def noted(store: Store) -> list[int]:
    return msgspec.msgpack.decode(await store.connection.command("HGET", store.keys.flow("wide"), "w:go"))


async def test_those_that_went_on_do_not_stand_in_the_way_of_who_waits_now(store: Store, actor: Actor) -> None:
    claims = await claimed(store, actor, NOTED_MAX + 20)
    early, late = claims[:NOTED_MAX], claims[NOTED_MAX:]
    await actor.exchange(*(suspended(claim, GO, IN_AN_HOUR) for claim in early))
    early = await go_on(store, actor, early)
    sleeping, ended = early[:300], early[300:400]
    await actor.exchange(*(suspended(claim, LATER, seen=("#0",)) for claim in sleeping))
    await actor.exchange(*[await actor.completed(claim) for claim in ended])
    assert len(await noted(store)) == NOTED_MAX, "who goes on stays noted"
    await actor.exchange(*(suspended(claim, GO) for claim in late))
    assert sorted(await noted(store)) == sorted(claim.index for claim in late)
    assert await Suspensions(store).is_awaited("wide", "go")
    await Suspensions(store).signal("wide", "go", b"\x01")
    graph = (await snapshots(store).snapshot("wide")).graph
    assert [graph[claim.index].state for claim in late] == ["ready"] * len(late)
    assert {graph[claim.index].state for claim in sleeping} == {"suspended"}


async def test_those_that_still_wait_stay_noted_when_the_list_is_full(store: Store, actor: Actor) -> None:
    claims = await claimed(store, actor, NOTED_MAX + 20)
    early, late = claims[:NOTED_MAX], claims[NOTED_MAX:]
    await actor.exchange(*(suspended(claim, GO, IN_AN_HOUR) for claim in early))
    gone = await go_on(store, actor, early[:5])
    await actor.exchange(*(suspended(claim, GO) for claim in late))
    left = await noted(store)
    assert len(left) == NOTED_MAX
    assert {claim.index for claim in early[5:]} <= set(left)
    assert not {claim.index for claim in gone} & set(left)
    again = await store.connection.command("ZCOUNT", store.keys.tag_of("wide") + DUE, "-inf", "+inf")
    assert again == NOTED_MAX - 5 + 15, "fifteen of the late look again by themselves"
