"""Flows beneath a stage that a later attempt of it finds again: which are its own."""

from __future__ import annotations

import msgspec
import pytest

from flowq.engine.flow.spawned import retry_flow
from flowq.model.names import spawned_id
from flowq.model.outcome import Claim, Wait
from flowq.model.timing import Timing
from flowq.store.keys import CLOSING
from flowq.store.store import Store
from flowq.store.suspensions import Spawner, Suspensions
from flowq.store.views import Views
from tests.store.acting import Actor, retried, states, suspended
from tests.store.graphs import chain

pytestmark = pytest.mark.anyio


def spawner(claim: Claim) -> Spawner:
    return Spawner(*claim.run, 1, claim.attempt)


async def test_what_the_next_attempt_finds_running_is_its_own_and_what_has_ended_is_not(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(1, attempts=3))])
    claim = await actor.claim_one_of("f1")
    running, ended, suspensions = spawned_id("f1", "s-0", "a"), spawned_id("f1", "s-0", "b"), Suspensions(store)
    for child in (running, ended):
        await suspensions.spawn(child, chain(1), spawner(claim))
    await store.cancel(ended, "", 1)
    await actor.report(retried(claim))
    claims = [await actor.claim_one_of("f1") for _ in range(2)]
    second = next(one for one in claims if one.flow_id == "f1")
    assert second.attempt == 2
    for _ in range(2):  # and again, as if the answer was lost
        found = [await suspensions.spawn(child, chain(1), spawner(second)) for child in (running, ended)]
        assert [one and (one.status, one.is_of_this_attempt) for one in found] == [("x", True), ("k", False)]
    await store.cancel(running, "", 1)
    late = await suspensions.spawn(running, chain(1), spawner(second))
    assert late is not None
    assert (late.status, late.is_of_this_attempt) == ("k", True)


async def test_only_the_run_that_waits_may_run_again_what_it_found_and_has_it_then(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(1, attempts=3))])
    first = await actor.claim_one_of("f1")
    child, suspensions = spawned_id("f1", "s-0", "a"), Suspensions(store)
    await suspensions.spawn(child, chain(1), spawner(first))
    await store.cancel(child, "", 1)
    await actor.report(retried(first))
    second = await actor.claim_one_of("f1")
    assert second.attempt == 2
    assert await retry_flow(store, child, spawner(first), Timing()) == "changed", "its run is over"
    left = await suspensions.spawn(child, chain(1), spawner(second))
    assert left is not None
    assert (left.status, left.is_of_this_attempt) == ("k", False)
    assert await retry_flow(store, child, spawner(second), Timing()) == "retried"
    assert await retry_flow(store, child, spawner(second), Timing()) == "changed", "it has not ended"
    await store.cancel(child, "", 1)
    found = await suspensions.spawn(child, chain(1), spawner(second))
    assert found is not None
    assert (found.status, found.is_of_this_attempt) == ("k", True), "what becomes of it is news, however soon"


async def test_what_is_being_cancelled_since_before_a_retry_by_hand_is_not_its_own(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(1, attempts=3))])
    claim = await actor.claim_one_of("f1")
    child, suspensions = spawned_id("f1", "s-0", "a"), Suspensions(store)
    await suspensions.spawn(child, chain(1), spawner(claim))
    await store.connection.command("HSET", store.keys.flow(child), "m", await closing_head(store, child))
    again = await suspensions.spawn(child, chain(1), Spawner(*claim.run, 2, claim.attempt))
    same_run = await suspensions.spawn(child, chain(1), Spawner(*claim.run, 1, claim.attempt + 1))
    found = [one and (one.status, one.is_of_this_attempt) for one in (again, same_run)]
    assert found == [("z", False), ("z", True)], "in one run only somebody can have cancelled it"


async def closing_head(store: Store, flow_id: str) -> bytes:
    """The head of a flow as it is while it is being cancelled in parts."""
    head = msgspec.msgpack.decode(await store.connection.command("HGET", store.keys.flow(flow_id), "m"))
    return msgspec.msgpack.encode(["z", *head[1:]])


async def removed(store: Store, flow_id: str, digest: str) -> None:
    """Cancelled and removed, as if who cancelled it had died before it came to what is beneath."""
    await store.cancel(flow_id, "", 1)
    assert await store.prune(store.keys.tag_of(flow_id), await Views(store).now() + 1_000, [f"{digest}{flow_id}".encode()]) == 1


async def test_what_a_removed_flow_spawned_wakes_no_stage_of_the_one_that_has_its_id(store: Store, actor: Actor) -> None:
    """A map that waited for its items was made to run again, and the flow counted less than nothing that waits."""
    await store.submit([("f1", chain(1))])
    first, child = await actor.claim_one_of("f1"), spawned_id("f1", "s-0", "a")
    await Suspensions(store).spawn(child, chain(1), spawner(first))
    await removed(store, "f1", first.plan)
    while await Views(store).now() == first.created_at:
        pass
    await store.submit([("f1", chain(1))])
    later = await actor.claim_one_of("f1")
    assert await actor.report(suspended(later, Wait("signal", "go"))) == ""
    await store.finish_closing(child, 1)
    assert await states(store, "f1") == "suspended: suspended"


async def test_who_ran_what_a_later_flow_of_the_same_id_spawned_anew_has_left_it_when_it_is_refused(
    store: Store, actor: Actor
) -> None:
    """It counted as running there for as long as its process lived."""
    await store.submit([("f1", chain(1))])
    first, child = await actor.claim_one_of("f1"), spawned_id("f1", "s-0", "a")
    await Suspensions(store).spawn(child, chain(1), spawner(first))
    earlier = await actor.claim_one_of("f1")
    assert earlier.flow_id == child
    await removed(store, "f1", first.plan)
    while await Views(store).now() == first.created_at:
        pass
    await store.submit([("f1", chain(1))])
    other = await Actor(store).begin()
    later = await other.claim_one_of("f1")
    await Suspensions(store).spawn(child, chain(1), spawner(later))
    assert await actor.complete(earlier) == "stale"
    tag = store.keys.tag_of("f1")
    assert await store.connection.command("SCARD", f"{tag}:x:{actor.id}") == 0


async def test_that_a_left_over_flow_was_about_to_close_is_forgotten_with_it(store: Store, actor: Actor) -> None:
    """The one that was spawned in its place stood among those that close, and nobody took it off when it had ended."""
    await store.submit([("f1", chain(1))])
    first, child = await actor.claim_one_of("f1"), spawned_id("f1", "s-0", "a")
    await Suspensions(store).spawn(child, chain(1), spawner(first))
    await removed(store, "f1", first.plan)
    closing = store.keys.tag_of("f1") + CLOSING
    assert await store.connection.command("ZRANGE", closing, 0, -1) == [child.encode()]
    while await Views(store).now() == first.created_at:
        pass
    await store.submit([("f1", chain(1))])
    later = await actor.claim_one_of("f1")
    await Suspensions(store).spawn(child, chain(1), spawner(later))
    assert await store.connection.command("ZRANGE", closing, 0, -1) == []
