"""Suspension at the store: what is lost, repeated, forged or comes at the wrong moment."""

from __future__ import annotations

import pytest

from flowq.engine.duties.duties import Closer
from flowq.model.names import spawned_id
from flowq.model.outcome import Claim, Wait
from flowq.store.feed import Feed
from flowq.store.keys import ASIDE, DUE
from flowq.store.pauses import Pauses
from flowq.store.store import Store
from flowq.store.suspensions import Spawner, Suspensions, close_orphans
from flowq.store.views import Views
from tests.store.acting import Actor, failed, in_one_partition, released, retried, snapshots, states, suspended
from tests.store.graphs import chain, wide

pytestmark = pytest.mark.anyio

GO = Wait("signal", "go")
HOUR = Wait("sleep", "", "#0", 3_600_000)


async def begun(store: Store, actor: Actor, flow_id: str = "f1", stages: int = 1) -> Claim:
    """A flow whose first stage runs."""
    await store.submit([(flow_id, chain(stages, attempts=3))])
    return await actor.claim_one_of(flow_id)


def spawner_of(claim: Claim) -> Spawner:
    return Spawner(*claim.run, 1, claim.attempt)


async def test_a_signal_between_the_look_and_the_suspension_resumes_at_once(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    assert await Suspensions(store).signal("f1", "go", b"\x01") == "signalled"
    assert await actor.report(suspended(claim, GO)) == ""
    assert await states(store, "f1") == "running: ready"
    again = await actor.claim_one()
    assert (again.attempt, again.token.fence) == (1, 2)


async def test_a_signal_whose_answer_was_lost_may_be_sent_again_though_the_flow_has_ended(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    await Suspensions(store).signal("f1", "go", b"\x01")
    await actor.complete(claim)
    words = [
        await Suspensions(store).signal("f1", name, value) for name, value in (("go", b"\x01"), ("go", b"\x02"), ("on", b"\x01"))
    ]
    assert words == ["known", "ended", "ended"]


async def test_a_child_that_ended_before_the_suspension_resumes_at_once(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    child = spawned_id("f1", "s-0", "a")
    assert await Suspensions(store).spawn(child, chain(1), spawner_of(claim)) is not None
    await actor.complete(await actor.claim_one_of(child))
    await actor.report(suspended(claim, Wait("flow", child)))
    assert await states(store, "f1") == "running: ready"


async def test_a_child_that_ends_in_the_very_batch_in_which_its_parent_is_suspended_resumes_it(
    store: Store, actor: Actor
) -> None:
    claim = await begun(store, actor)
    child = spawned_id("f1", "s-0", "a")
    await Suspensions(store).spawn(child, chain(1), spawner_of(claim))
    inner = await actor.claim_one_of(child)
    answer = await actor.exchange(suspended(claim, Wait("flow", child)), await actor.completed(inner), capacity=1)
    assert answer is not None
    assert [one.flow_id for one in answer.claims] == ["f1"], "and it is claimed by the same call"


async def test_a_suspension_whose_answer_was_lost_may_be_reported_again(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    outcome = suspended(claim, GO, HOUR)
    assert await actor.report(outcome) == ""
    seq = (await snapshots(store).snapshot("f1")).seq
    assert await actor.report(outcome) == "replayed"
    await Suspensions(store).signal("f1", "go", b"\x01")
    assert await actor.report(outcome) == "replayed"
    await actor.claim_one()
    assert await actor.report(outcome) == "stale"
    assert (await snapshots(store).snapshot("f1")).seq == seq + 3


async def test_who_was_suspended_can_report_nothing_any_more(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    await actor.report(suspended(claim, GO))
    for outcome in (await actor.completed(claim), failed(claim), retried(claim), released(claim)):
        assert await actor.report(outcome) == "stale"
    assert await states(store, "f1") == "suspended: suspended"


async def test_a_signal_is_awaited_only_by_who_waits_for_it_now(store: Store, actor: Actor) -> None:
    suspensions = Suspensions(store)
    await actor.report(suspended(await begun(store, actor), GO, Wait("signal", "on")))
    assert await suspensions.is_awaited("f1", "go")
    await suspensions.signal("f1", "on", b"\x01")
    assert not await suspensions.is_awaited("f1", "go"), "it is ready, and may ask for something else"
    await actor.report(suspended(await actor.claim_one(), HOUR))
    assert not await suspensions.is_awaited("f1", "go"), "it sleeps"


async def test_no_signal_is_awaited_by_a_flow_that_has_ended(store: Store, actor: Actor) -> None:
    suspensions = Suspensions(store)
    await actor.report(suspended(await begun(store, actor), GO))
    await store.cancel("f1", "", 1)
    assert not await suspensions.is_awaited("f1", "go")
    assert not await suspensions.is_awaited("nobody", "go")


async def test_a_timer_runs_from_the_first_suspension_on(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    await actor.report(suspended(claim, HOUR, GO))
    first = (await Suspensions(store).memory("f1", 0)).ends
    await Suspensions(store).signal("f1", "go", b"\x01")
    await actor.report(suspended(await actor.claim_one(), HOUR))
    memory = await Suspensions(store).memory("f1", 0)
    assert (memory.ends, memory.suspensions) == (first, 2)
    assert 3_590_000 < first["#0"] - memory.now <= 3_600_000


async def test_a_resumed_stage_goes_before_others_of_its_lane(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    await actor.report(suspended(claim, GO))
    others = [name for name in in_one_partition(store, 5) if store.keys.tag_of(name) == store.keys.tag_of("f1")]
    for other in others:
        await store.submit([(other, chain(1))])
    await Suspensions(store).signal("f1", "go", b"\x01")
    assert (await actor.claim_one_of("f1")).flow_id == "f1"


async def test_nothing_of_a_suspended_stage_is_left_when_it_completes(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor, stages=2)
    await actor.report(suspended(claim, HOUR, GO))
    await Suspensions(store).signal("f1", "go", b"\x01")
    await actor.complete(await actor.claim_one())
    fields = {name.decode() for name in await store.connection.command("HKEYS", store.keys.flow("f1"))}
    assert not fields & {"u0", "w:go"}
    assert await store.connection.command("ZCARD", store.keys.tag_of("f1") + ":due") == 0


async def test_a_suspended_stage_survives_the_rescue_of_its_worker(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    await actor.report(suspended(claim, GO))
    for tag in store.partitions:
        assert await store.rescue(tag, actor.id, "gone", is_crash=True) == 0
    assert await states(store, "f1") == "suspended: suspended"
    heir = await Actor(store).begin()
    await Suspensions(store).signal("f1", "go", b"\x01")
    assert (await heir.claim_one()).attempt == 1


async def test_a_stale_or_cancelled_parent_spawns_nothing(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    child = spawned_id("f1", "s-0", "a")
    forged = Spawner("f1", 0, claim.token.fence, "forged", 1, 1)
    assert await Suspensions(store).spawn(child, chain(1), forged) is None
    await actor.report(suspended(claim, GO))
    assert await Suspensions(store).spawn(child, chain(1), spawner_of(claim)) is None
    await store.cancel("f1", "", 1)
    assert await Suspensions(store).spawn(child, chain(1), spawner_of(claim)) is None
    assert not await Views(store).exists(child)


async def test_a_spawned_flow_is_found_again_by_the_next_run(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    child, suspensions = spawned_id("f1", "s-0", "a"), Suspensions(store)
    assert (await suspensions.spawn(child, chain(1), spawner_of(claim))) is not None
    assert (await suspensions.spawn(child, chain(1), spawner_of(claim))) is not None, "its answer was lost"
    await actor.report(released(claim))
    again = await Actor(store, routes=("s",)).begin()
    claims = [await again.claim_one_of("f1") for _ in range(2)]
    second = next(one for one in claims if one.flow_id == "f1")
    found = await suspensions.spawn(child, chain(1), spawner_of(second))
    assert found is not None
    assert (found.status, found.is_of_this_attempt) == ("x", True)


async def test_what_was_left_of_an_earlier_flow_of_the_same_id_is_not_found(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    child, suspensions = spawned_id("f1", "s-0", "a"), Suspensions(store)
    await suspensions.spawn(child, chain(1), spawner_of(claim))
    await actor.complete(await actor.claim_one_of(child))
    await store.connection.command("DEL", store.keys.flow("f1"))
    later = await begun(store, actor)
    found = await suspensions.spawn(child, chain(1), spawner_of(later))
    assert found is not None
    assert found.status == "r"


async def test_a_tree_is_felled_piece_by_piece_and_what_runs_is_closed_first(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    suspensions, tag = Suspensions(store), store.keys.tag_of("f1")
    children = [spawned_id("f1", "s-0", f"{number:04}") for number in range(700)]
    for child in children:
        await suspensions.spawn(child, chain(1), spawner_of(claim))
    await actor.report(suspended(claim, GO))
    running = (await actor.claim_one_of("f1")).flow_id
    for child in children:
        if child != running:
            await store.cancel(child, "", 1)
    await store.connection.command("DEL", store.keys.flow("f1"))
    felled = await suspensions.fell(tag, all_now=True)
    assert 499 <= len(felled.flows) <= 500
    assert felled.is_more
    while (await suspensions.fell(tag, all_now=True)).is_more:
        pass
    left = [child for child in children if await Views(store).exists(child)]
    assert left == [running]
    assert not (await suspensions.fell(tag)).is_more, "what runs is looked at again later"
    assert await states(store, running) == "cancelled: running", "it is about to be"
    await Closer(store, Views(store)).run_once()
    await suspensions.fell(tag, all_now=True)
    assert not await Views(store).exists(running)
    assert [event.verb for event in await Feed(store.connection, store.keys).past(running, 0, 0)][-2:] == ["cancelled", "pruned"]
    assert await store.connection.command("EXISTS", f"{tag}:trees") == 0


async def test_a_wide_tree_is_cancelled_in_pieces(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    children = [spawned_id("f1", "s-0", f"{number:04}") for number in range(450)]
    for child in children:
        await Suspensions(store).spawn(child, chain(1), spawner_of(claim))
    await actor.report(suspended(claim, Wait("flow", children[0])))
    assert await store.cancel("f1", "enough", 1) == "cancelled"
    heads = [await Views(store).head(child) for child in children]
    assert {(head.status, head.reason) for head in heads} == {("z", "the flow above was cancelled (enough)")}


async def test_a_wide_tree_is_closed_in_pieces_when_the_flow_above_has_ended(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    children = [spawned_id("f1", "s-0", f"{number:04}") for number in range(450)]
    for child in children:
        await Suspensions(store).spawn(child, chain(1), spawner_of(claim))
    await actor.complete(claim)
    assert await Views(store).closing() == ["/f1"]
    assert sorted([child async for child in close_orphans(store, "f1")]) == children
    heads = [await Views(store).head(child) for child in children]
    assert {(head.status, head.reason) for head in heads} == {("z", "the flow above completed")}


async def test_a_flow_beneath_which_all_has_ended_leaves_nothing_to_be_closed(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    children = [spawned_id("f1", "s-0", name) for name in "ab"]
    for child in children:
        await Suspensions(store).spawn(child, chain(1), spawner_of(claim))
    inner = [await actor.claim_one_of("f1") for _ in children]
    await actor.complete(inner[0])
    await actor.exchange(await actor.completed(inner[1]), await actor.completed(claim))
    assert await states(store, "f1") == "completed: completed"
    assert await Views(store).closing() == []


async def test_what_was_spawned_further_beneath_is_closed_with_what_is_between(store: Store, actor: Actor) -> None:
    claim = await begun(store, actor)
    child = spawned_id("f1", "s-0", "a")
    await Suspensions(store).spawn(child, chain(1), spawner_of(claim))
    inner = await actor.claim_one_of(child)
    await Suspensions(store).spawn(spawned_id(child, "s-0", "b"), chain(1), spawner_of(inner))
    await actor.complete(claim)
    assert [closed async for closed in close_orphans(store, "f1")] == [child]


async def test_what_was_put_aside_beneath_a_paused_flow_goes_on_though_that_ends_as_more_of_it_is_due(
    store: Store, actor: Actor
) -> None:
    claim = await begun(store, actor)
    tag, child = store.keys.tag_of("f1"), spawned_id("f1", "s-0", "a")
    await Suspensions(store).spawn(child, chain(1), spawner_of(claim))
    await Pauses(store).pause("flow", "f1", "")
    assert await actor.exchange_claims(tag, 1) == []
    assert await store.connection.command("LLEN", f"{tag}{ASIDE}flow:f1") == 1
    # What a resume before this pause left to be done.
    await store.connection.command("ZADD", tag + DUE, 1, "o:flow:f1")
    await actor.complete(claim)
    await actor.exchange(tag=tag)
    assert (await actor.claim_one_of(child)).flow_id == child


async def test_more_waiters_for_one_signal_than_are_noted_look_again(store: Store, actor: Actor) -> None:
    await store.submit([("wide", wide(510))])
    claims = await actor.claim(510)
    while len(claims) < 510:
        claims += await actor.claim(510 - len(claims))
    await actor.exchange(*(suspended(claim, GO) for claim in claims))
    due = await store.connection.command("ZCARD", store.keys.tag_of("wide") + ":due")
    assert due == 10
    await Suspensions(store).signal("wide", "go", b"\x01")
    snapshot = await snapshots(store).snapshot("wide")
    assert sum(stage.state == "ready" for stage in snapshot.graph) == 500
