"""The worker's one conversation: claims and outcomes, once each, whatever is repeated, late, forged or damaged."""

from __future__ import annotations

import secrets
from collections import Counter

import pytest

from flowq.model.outcome import Progress
from flowq.store.feed import Feed
from flowq.store.store import Store
from flowq.store.wants import Wants
from tests.store.acting import (
    Actor,
    everything,
    failed,
    in_one_partition,
    released,
    retried,
    snapshots,
    states,
    two_in_one_partition,
)
from tests.store.graphs import chain, diamond, drawn, one_stage, wide

pytestmark = pytest.mark.anyio


async def test_a_parent_is_released_by_the_last_of_its_children(store: Store, actor: Actor) -> None:
    await store.submit([("f1", diamond())])
    assert await actor.complete(await actor.claim_one()) == ""
    b, c = await actor.claim(5)
    assert await actor.complete(b) == ""
    assert await states(store, "f1") == "running: completed completed running blocked"
    assert await actor.complete(c) == ""
    assert await states(store, "f1") == "running: completed completed completed ready"
    assert await actor.complete(await actor.claim_one()) == ""
    assert await states(store, "f1") == "completed: completed completed completed completed"


async def test_a_claim_carries_what_its_children_returned(store: Store, actor: Actor) -> None:
    await store.submit([("f1", drawn({"a": [], "b": [], "c": ["a", "b"]}))])
    for claim in await actor.claim(2):
        await actor.complete(claim, {"index": claim.index})
    assert (await actor.claim_one()).results == {0: b"\x81\xa5index\x00", 1: b"\x81\xa5index\x01"}


async def test_a_released_parent_is_claimed_in_the_same_call(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(2))])
    outcome = await actor.completed(await actor.claim_one())
    answer = await actor.exchange(outcome, capacity=1)
    assert answer is not None
    assert [claim.index for claim in answer.claims] == [1]


async def test_the_same_call_again_claims_nothing_more_and_applies_nothing_twice(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(3)), ("f2", chain(3)), ("f3", chain(3))])
    claim = await actor.claim_one_of("f1")
    outcome = await actor.completed(claim, "once")
    tag = store.keys.tag_of("f1")
    first = await actor.exchange(outcome, tag=tag, capacity=2)
    before = await everything(store)
    again = await actor.exchange(outcome, tag=tag, capacity=2, seq=actor.seq, nonce=actor.nonce)
    assert first is not None
    assert again is not None
    assert sorted((claim.flow_id, claim.index, claim.token) for claim in again.claims) == sorted(
        (claim.flow_id, claim.index, claim.token) for claim in first.claims
    )
    assert [verdict.word for verdict in again.verdicts] == ["replayed"]
    assert await everything(store) == before


async def test_an_older_call_is_superseded_and_changes_nothing(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    tag = store.keys.tag_of("f1")
    for _ in range(3):
        await actor.exchange(tag=tag)
    before = await everything(store)
    assert await actor.exchange(tag=tag, capacity=5, seq=2) is None
    assert await everything(store) == before


async def test_two_lines_count_for_themselves(store: Store, actor: Actor) -> None:
    tag = store.partitions[0]
    assert await actor.exchange(tag=tag, line=0, seq=7) is not None
    assert await actor.exchange(tag=tag, line=1, seq=1) is not None


async def test_who_never_registered_is_expired(store: Store) -> None:
    await store.submit([("f1", one_stage())])
    before = await everything(store)
    assert await Actor(store).exchange(tag=store.keys.tag_of("f1"), capacity=1) is None
    assert await everything(store) == before


@pytest.mark.parametrize("what", ["fence", "nonce"])
async def test_a_forged_token_is_refused_and_changes_nothing(store: Store, actor: Actor, what: str) -> None:
    await store.submit([("f1", chain(2))])
    claim = await actor.claim_one()
    forged = claim.token.__class__(claim.token.fence + (what == "fence"), claim.token.nonce + "x" * (what == "nonce"))
    good, claim.token = claim.token, forged
    before = await states(store, "f1")
    for outcome in (await actor.completed(claim), failed(claim), retried(claim), released(claim)):
        assert await actor.report(outcome) == "stale"
    assert await states(store, "f1") == before
    claim.token = good
    assert await actor.complete(claim) == ""


async def test_a_zombie_is_told_who_holds_the_stage_now(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    old = await actor.claim_one()
    await store.rescue(store.keys.tag_of("f1"), actor.id, "gone", is_crash=False)
    heir = await Actor(store).begin()
    await heir.claim_one()
    await actor.begin()
    answer = await actor.exchange(await actor.completed(old, "zombie"))
    assert answer is not None
    assert [(verdict.word, verdict.holder) for verdict in answer.verdicts] == [("stale", heir.id)]
    assert (await snapshots(store).snapshot("f1")).stage("a").worker == heir.id.partition(".")[0]


async def test_every_kind_of_end_may_be_reported_twice(store: Store, actor: Actor) -> None:
    await store.submit([(f"f{number}", one_stage()) for number in range(4)])
    claims = await actor.claim(4)
    outcomes = [await actor.completed(claims[0]), failed(claims[1]), retried(claims[2], 60_000), released(claims[3])]
    assert [await actor.report(outcome) for outcome in outcomes] == [""] * 4
    before = {claim.flow_id: await states(store, claim.flow_id) for claim in claims}
    assert [await actor.report(outcome) for outcome in outcomes] == ["replayed"] * 4
    assert {claim.flow_id: await states(store, claim.flow_id) for claim in claims} == before


async def test_another_end_for_a_stage_that_has_ended_is_stale(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    claim = await actor.claim_one()
    await actor.complete(claim)
    assert await actor.report(failed(claim)) == "stale"
    assert await states(store, "f1") == "completed: completed"


async def test_a_thousand_children_release_their_parent_once(store: Store, actor: Actor) -> None:
    await store.submit([("f1", wide(1_000))])
    assert await actor.finish() == 1_001
    snapshot = await snapshots(store).snapshot("f1")
    assert (snapshot.state, snapshot.stage("top").runs) == ("completed", 1)


async def test_many_inputs_do_not_come_with_the_claim_but_in_pages(store: Store, actor: Actor) -> None:
    await store.submit([("f1", wide(1_500))])
    await actor.finish(1_500)
    top = await actor.claim_one(["default:top"])
    assert top.results is None
    results = await store.results("f1", range(1_500))
    assert list(results) == list(range(1_500))


async def test_results_above_64_kb_do_not_come_with_the_claim(store: Store, actor: Actor) -> None:
    await store.submit(
        [("f1", drawn({**{f"a-{number}": [] for number in range(40)}, "b": [f"a-{number}" for number in range(40)]}))]
    )
    for claim in await actor.claim(40):
        await actor.complete(claim, "x" * 2_000)
    assert (await actor.claim_one()).results is None


async def test_a_range_is_handed_out_in_turns_with_other_flows(store: Store, actor: Actor) -> None:
    """A flow of many stages must not let the next one wait for all of them."""
    large, small = two_in_one_partition(store)
    await store.submit([(large, wide(1_000))])
    await store.submit([(small, drawn({"leaf": []}))])
    claims = [*await actor.claim(50), *await actor.claim(50)]
    assert {claim.flow_id for claim in claims} == {large, small}
    assert len({(claim.flow_id, claim.index) for claim in claims}) == len(claims)


async def test_the_larger_priority_runs_first_and_the_stage_adds_to_its_flow(store: Store, actor: Actor) -> None:
    ids = in_one_partition(store, 4)
    for flow_id, priority in zip(ids, (0, 5, -3, 1_000_000), strict=True):
        await store.submit([(flow_id, one_stage(priority=priority))])
    order = [(await actor.claim(1, ["default:a"]))[0].flow_id for _ in ids]
    assert order == [ids[3], ids[1], ids[0], ids[2]]


async def test_a_queue_gives_no_more_than_its_slots(store: Store, actor: Actor) -> None:
    ids = in_one_partition(store, 3)
    await store.submit([(flow_id, drawn({"a": [], "b": []})) for flow_id in ids])
    wants = [Wants(1, ("default:a",)), Wants(-1, ("default:b",))]
    answer = await store.exchange(store.keys.tag_of(ids[0]), actor.id, 0, 1, "n", [], [], wants, 10, False)
    assert answer is not None
    assert sorted(claim.index for claim in answer.claims) == [0, 1, 1, 1]


async def test_a_route_that_stands_under_several_bounds_keeps_to_each(store: Store, actor: Actor) -> None:
    """Such as the slots of its queue, and the host's room that stages of several queues share."""
    ids = in_one_partition(store, 4)
    await store.submit([(flow_id, drawn({"a": [], "b": [], "c": []})) for flow_id in ids])
    wants = [Wants(3, ("default:a", "default:b")), Wants(-1, ("default:c",)), Wants(2, ("default:b", "default:c"))]
    answer = await store.exchange(store.keys.tag_of(ids[0]), actor.id, 0, 1, "n", [], [], wants, 10, False)
    assert answer is not None
    claimed = Counter(claim.index for claim in answer.claims)
    assert claimed[0] + claimed[1] == 3
    assert claimed[1] + claimed[2] == 2


async def test_a_retried_stage_is_promoted_when_its_time_has_come(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage(attempts=3)), ("f2", one_stage(attempts=3))])
    now, later = await actor.claim(2)
    assert await actor.report(retried(now)) == ""
    assert await actor.report(retried(later, 60_000)) == ""
    again = await actor.claim_one()
    assert (again.flow_id, again.attempt, again.token.fence) == (now.flow_id, 2, 2)
    answer = await actor.exchange(tag=store.keys.tag_of(later.flow_id), capacity=1, parks=True)
    assert answer is not None
    assert 0 < answer.next_due_at - answer.now <= 60_000


async def test_a_retry_that_keeps_its_attempt_and_a_release_use_none_up(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage(attempts=3))])
    await actor.report(retried(await actor.claim_one(), keeps_attempt=True))
    await actor.report(released(await actor.claim_one()))
    claim = await actor.claim_one()
    assert (claim.attempt, claim.token.fence) == (1, 3)
    history = (await snapshots(store).snapshot("f1")).stage("a").history
    assert [run.outcome for run in history] == ["retried", "released"]


async def test_a_failed_child_leaves_its_parents_blocked_and_its_siblings_run_on(store: Store, actor: Actor) -> None:
    await store.submit([("f1", drawn({"a": [], "b": [], "c": ["a"], "d": ["b"]}))])
    a, b = sorted(await actor.claim(2), key=lambda claim: claim.index)
    assert await actor.report(failed(a)) == ""
    assert await states(store, "f1") == "running: failed running blocked blocked"
    await actor.complete(b)
    await actor.complete(await actor.claim_one())
    assert await states(store, "f1") == "failed: failed completed blocked completed"


async def test_progress_counts_only_from_who_runs_the_stage(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    claim = await actor.claim_one()
    tag, run = store.keys.tag_of("f1"), (claim.flow_id, claim.index, claim.token.fence)
    await actor.exchange(tag=tag, progress=[Progress(*run, claim.token.nonce, 0.5, "half"), Progress(*run, "forged", 0.9, "no")])
    stage = (await snapshots(store).snapshot("f1")).stage("a")
    assert (stage.progress, stage.message) == (0.5, "half")


async def test_events_are_numbered_without_holes(store: Store, actor: Actor) -> None:
    await store.submit([("f1", diamond())])
    await actor.report(retried(await actor.claim_one()))
    await actor.finish()
    events = await Feed(store.connection, store.keys).past("f1", 0, 0)
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    verbs = " ".join(event.verb for event in events)
    assert verbs.startswith("added claimed retried promoted claimed completed released released claimed claimed")
    assert verbs.endswith("claimed completed completed")
    assert (await snapshots(store).snapshot("f1")).seq == len(events)


@pytest.mark.parametrize("damage", ["gone", "record", "short record", "head"])
async def test_a_damaged_flow_does_not_spoil_the_batch_it_is_in(store: Store, actor: Actor, damage: str) -> None:
    victim, other = two_in_one_partition(store)
    await store.submit([(victim, chain(2)), (other, chain(2))])
    claims = {claim.flow_id: claim for claim in await actor.claim(2)}
    outcomes = [await actor.completed(claims[victim]), await actor.completed(claims[other])]
    key, command = store.keys.flow(victim), store.connection.command
    match damage:
        case "gone":
            await command("DEL", key)
        case "record":
            await command("HSET", key, "0", b"\xc1rubbish")
        case "short record":
            await command("HSET", key, "0", b"\x91\xa1x")
        case _:
            await command("HSET", key, "m", secrets.token_bytes(20))
    answer = await actor.exchange(*outcomes)
    assert answer is not None
    assert [(verdict.position, verdict.word) for verdict in answer.verdicts] == [(0, "corrupt" if "record" in damage else "gone")]
    assert await states(store, other) == "running: completed ready"
    # The victim is not held any more, so that it can't be taken for what crashed this process.
    assert await command("SCARD", f"{store.keys.tag_of(victim)}:x:{actor.id}") == 0


async def test_a_damaged_flow_at_the_head_of_a_lane_is_passed(store: Store, actor: Actor) -> None:
    ids = in_one_partition(store, 3)
    for flow_id in ids:
        await store.submit([(flow_id, one_stage())])
    await store.connection.command("DEL", store.keys.flow(ids[0]))
    await store.connection.command("HSET", store.keys.flow(ids[1]), "0", b"\x91\xa1r")
    assert [claim.flow_id for claim in await actor.claim(5)] == [ids[2]]


async def test_a_crowd_of_cancelled_flows_is_passed_in_bounded_calls(store: Store, actor: Actor) -> None:
    ids = in_one_partition(store, 1_201)
    await store.submit([(flow_id, one_stage()) for flow_id in ids])
    for flow_id in ids[:-1]:
        await store.cancel(flow_id, "", 1)
    tag = store.keys.tag_of(ids[0])
    answers = [await actor.exchange(tag=tag, capacity=50, parks=True) for _ in range(3)]
    assert [len(answer.claims) for answer in answers if answer] == [0, 0, 1]
    assert [answer.next_due_at == answer.now for answer in answers[:2] if answer] == [True, True]


async def test_scripts_that_the_server_forgot_are_loaded_again(store: Store, actor: Actor) -> None:
    for number in range(3):
        await store.connection.command("SCRIPT", "FLUSH")
        await store.submit([(f"f{number}", chain(3))])
        await store.connection.command("SCRIPT", "FLUSH")
        claim = await actor.claim_one()
        await store.connection.command("SCRIPT", "FLUSH")
        assert await actor.complete(claim) == ""
        assert await actor.finish() == 2
