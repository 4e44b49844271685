"""Cancelling, retrying and pruning whole flows."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from flowq.engine.backend import retention_of
from flowq.engine.duties.duties import Closer, Pruner
from flowq.model.keep import KeepSettings
from flowq.model.plan import Plan
from flowq.store.keys import FINISHED
from flowq.store.retentions import Retention
from flowq.store.store import Store
from flowq.store.views import Views
from tests.scanned import keys_like
from tests.store.acting import Actor, again, everything, failed, in_one_partition, released, retried, snapshots, states
from tests.store.graphs import chain, diamond, drawn, one_stage, wide

pytestmark = pytest.mark.anyio


async def retry(store: Store, flow_id: str, plan: Plan, seq: int | None = None) -> bool:
    """As `FlowHandle.retry` does it."""
    snapshot = await snapshots(store).snapshot(flow_id)
    return await store.retry(flow_id, snapshot.seq if seq is None else seq, again(snapshot, plan))


# ── cancel ───────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_cancelled_flow_is_never_claimed(store: Store, actor: Actor) -> None:
    await store.submit([("f1", diamond())])
    assert await store.cancel("f1", "not needed", 4) == "cancelled"
    assert await actor.claim(5) == []
    snapshot = await snapshots(store).snapshot("f1")
    assert (snapshot.state, snapshot.cancel_reason) == ("cancelled", "not needed")
    assert {stage.state for stage in snapshot.graph} == {"cancelled"}


async def test_who_runs_a_cancelled_stage_is_told_once_and_refused(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    claim = await actor.claim_one()
    await store.cancel("f1", "", 1)
    tag = store.keys.tag_of("f1")
    told = await actor.exchange(tag=tag)
    assert told is not None
    assert told.cancelled == [claim.run]
    again = await actor.exchange(tag=tag, seq=actor.seq, nonce=actor.nonce)
    assert again is not None
    assert again.cancelled == told.cancelled, "the reply may have been lost"
    after = await actor.exchange(tag=tag)
    assert after is not None
    assert after.cancelled == []
    assert await actor.complete(claim) == "late"


async def test_the_end_of_a_stage_that_was_cancelled_meanwhile_is_late_whatever_it_is(store: Store, actor: Actor) -> None:
    """Nobody else has the stage: that it is held by the very one who reports it must not be told."""
    await store.submit([("f1", one_stage())])
    claim = await actor.claim_one()
    await store.cancel("f1", "", 1)
    before = await states(store, "f1")
    ends = (await actor.completed(claim), failed(claim), retried(claim), released(claim))
    answer = await actor.exchange(*ends)
    assert answer is not None
    assert [(verdict.word, verdict.holder) for verdict in answer.verdicts] == [("late", "")] * len(ends)
    assert await states(store, "f1") == before


async def test_scheduled_stages_of_a_cancelled_flow_never_come_back(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage(attempts=3))])
    await actor.report(retried(await actor.claim_one(), 60_000))
    await store.cancel("f1", "", 1)
    assert await Views(store).scheduled() == 0


async def test_what_had_completed_stays_completed(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(3))])
    await actor.complete(await actor.claim_one())
    await store.cancel("f1", "", 3)
    assert await states(store, "f1") == "cancelled: completed cancelled cancelled"


async def test_a_large_flow_is_cancelled_in_pieces(store: Store, actor: Actor) -> None:
    await store.submit([("f1", wide(1_200))])
    tag = store.keys.tag_of("f1")
    retention = msgspec.msgpack.encode(Retention())
    assert await store.connection.run("cancel", tag, "f1", "why", "n", 1_201, retention) == [b"closing", []]
    assert await actor.claim(5) == [], "from the first call on nothing of it is claimed"
    # Whoever finds it finishes it.
    await Closer(store, Views(store)).run_once()
    snapshot = await snapshots(store).snapshot("f1")
    assert (snapshot.state, snapshot.cancel_reason) == ("cancelled", "why")
    assert {stage.state for stage in snapshot.graph} == {"cancelled"}
    assert await Views(store).closing() == []


async def test_a_call_that_comes_late_or_twice_does_not_cancel_what_was_retried_meanwhile(store: Store, actor: Actor) -> None:
    spec = wide(600)
    await store.submit([("f1", spec)])
    tag = store.keys.tag_of("f1")
    retention = msgspec.msgpack.encode(Retention())

    async def cancel(nonce: str) -> bytes:
        return (await store.connection.run("cancel", tag, "f1", "", nonce, 601, retention))[0]

    assert await cancel("first") == b"closing"
    assert await store.finish_closing("f1", 601) == "cancelled"  # somebody else was faster
    assert await retry(store, "f1", spec.plan)
    assert await cancel("first") == b"cancelled", "its answer was lost: it hears what it did then"
    assert await store.finish_closing("f1", 601) == "x", "who only finishes begins nothing"
    assert (await snapshots(store).snapshot("f1")).state == "running"
    assert await cancel("second") == b"closing"
    assert await cancel("who joins") == b"cancelled"
    assert await retry(store, "f1", spec.plan)
    assert [await cancel(nonce) for nonce in ("second", "who joins", "first")] == [b"cancelled"] * 3
    assert (await snapshots(store).snapshot("f1")).state == "running"


async def test_a_stage_that_completes_while_its_flow_is_being_cancelled_releases_nothing(store: Store, actor: Actor) -> None:
    await store.submit([("f1", wide(700))])
    tag = store.keys.tag_of("f1")
    claims = await actor.exchange_claims(tag, 700)
    late = claims[-1]
    retention = msgspec.msgpack.encode(Retention())
    await store.connection.run("cancel", tag, "f1", "", "n", 701, retention)
    assert await actor.complete(late) == ""
    assert await store.finish_closing("f1", 701) == "cancelled"
    assert await actor.claim(5) == []
    assert (await snapshots(store).snapshot("f1")).stage("top").state == "cancelled"


async def test_cancelling_a_flow_that_has_ended_changes_nothing(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    await actor.finish()
    before = await everything(store)
    assert await store.cancel("f1", "", 1) == "c"
    assert await store.cancel("nowhere", "", 1) == "unknown"
    assert await everything(store) == before


async def test_a_vanished_flow_does_not_hold_up_the_cancelling_of_others(store: Store) -> None:
    gone, other = in_one_partition(store, 2)
    await store.submit([(gone, wide(600)), (other, wide(700))])
    tag, retention = store.partitions[0], msgspec.msgpack.encode(Retention())
    for flow_id, stages in ((gone, 601), (other, 701)):
        await store.connection.run("cancel", tag, flow_id, "", "n", stages, retention)
    await store.connection.command("DEL", store.keys.flow(gone))
    await Closer(store, Views(store)).run_once()
    assert (await snapshots(store).snapshot(other)).state == "cancelled"
    assert await Views(store).closing() == []


# ── retry ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_retried_flow_runs_only_what_had_not_completed(store: Store, actor: Actor) -> None:
    spec = drawn({"a": [], "b": [], "c": ["a", "b"]})
    await store.submit([("f1", spec)])
    a, b = sorted(await actor.claim(2), key=lambda claim: claim.index)
    await actor.complete(a)
    await actor.report(failed(b))
    assert await states(store, "f1") == "failed: completed failed blocked"
    assert await retry(store, "f1", spec.plan)
    assert await states(store, "f1") == "running: completed ready blocked"
    claim = await actor.claim_one()
    assert (claim.index, claim.attempt, claim.token.fence) == (1, 1, 2)
    await actor.complete(claim)
    assert await actor.finish() == 1
    assert await states(store, "f1") == "completed: completed completed completed"


async def test_a_cancelled_flow_can_be_retried(store: Store, actor: Actor) -> None:
    spec = diamond()
    await store.submit([("f1", spec)])
    await actor.complete(await actor.claim_one())
    await actor.claim(1)
    await store.cancel("f1", "", 4)
    assert await retry(store, "f1", spec.plan)
    assert await actor.finish() == 3
    assert (await snapshots(store).snapshot("f1")).state == "completed"


async def test_a_retry_of_what_has_changed_since_does_nothing(store: Store, actor: Actor) -> None:
    spec = one_stage()
    await store.submit([("f1", spec)])
    await actor.report(failed(await actor.claim_one()))
    before = await everything(store)
    assert not await retry(store, "f1", spec.plan, seq=2)
    assert await everything(store) == before


async def test_two_retries_at_once_make_one(store: Store, actor: Actor) -> None:
    spec = one_stage()
    await store.submit([("f1", spec)])
    await actor.report(failed(await actor.claim_one()))
    snapshot = await snapshots(store).snapshot("f1")
    answers = await asyncio.gather(*(store.retry("f1", snapshot.seq, again(snapshot, spec.plan)) for _ in range(5)))
    assert sorted(answers) == [False, False, False, False, True]
    assert len(await actor.claim(5)) == 1


async def test_a_repeated_retry_changes_nothing_even_when_the_flow_has_ended_since(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    await actor.report(failed(claim := await actor.claim_one()))
    seen = await snapshots(store).snapshot("f1")
    plan = await (await store.plan("f1", claim.plan)).whole()
    call = ("retry", store.keys.tag_of("f1"), "f1", seen.seq, "mine", msgspec.msgpack.encode(again(seen, plan)))
    assert await store.connection.run(*call) == [b"retried", 1]
    await actor.report(failed(await actor.claim_one()))
    before = await everything(store)
    assert await store.connection.run(*call) == [b"retried", 1]
    assert await everything(store) == before
    assert await retry(store, "f1", plan), "another call is another retry"
    assert await store.connection.run(*call) == [b"changed", b"x"]


async def test_a_retried_flow_no_longer_expires_and_is_listed_as_running(store: Store, actor: Actor) -> None:
    spec = one_stage()
    await store.submit([("f1", spec)])
    await actor.report(failed(await actor.claim_one()))
    key = store.keys.flow("f1")
    assert await store.connection.command("PTTL", key) > 0
    await retry(store, "f1", spec.plan)
    assert await store.connection.command("PTTL", key) == -1
    views = Views(store)
    assert [flow for pages in views.indexes("failed") async for flow in pages] == []
    assert [flow for pages in views.indexes("running") async for flow in pages] == [["f1"]]


async def test_a_flow_with_thousands_of_cancelled_stages_can_be_retried(store: Store, actor: Actor) -> None:
    spec = wide(9_000)
    await store.submit([("f1", spec)])
    await store.cancel("f1", "", 9_001)
    assert await retry(store, "f1", spec.plan)
    assert len(await actor.claim(50)) == 50


# ── prune ────────────────────────────────────────────────────────────────────────────────────────────────────────────

AT_ONCE = Retention(-1_000, -1_000, -1_000)


async def ended(store: Store, actor: Actor) -> None:
    """One completed, one failed, one cancelled flow, and one that lives."""
    await store.submit([(f"f{number}", one_stage()) for number in range(4)])
    claims = {claim.flow_id: claim for claim in await actor.claim(4)}
    await actor.complete(claims["f0"])
    await actor.report(failed(claims["f1"]))
    await store.cancel("f2", "", 1)


async def test_pruning_removes_what_has_ended_and_nothing_else(store: Store, actor: Actor) -> None:
    await ended(store, actor)
    digest = one_stage().plan.digest.encode()
    before = await Views(store).now() + 1_000
    for tag in store.partitions:
        await store.prune(
            tag, before, [digest + f"f{number}".encode() for number in range(4) if store.keys.tag_of(f"f{number}") == tag]
        )
    views = Views(store)
    assert [await views.exists(f"f{number}") for number in range(4)] == [False, False, False, True]
    assert (await states(store, "f3")).startswith("running")


async def test_a_flow_whose_retention_is_not_over_stays(store: Store, actor: Actor) -> None:
    await ended(store, actor)
    assert await Pruner(store, Views(store)).run_once() == 0
    assert await Views(store).exists("f1")


async def test_what_is_to_be_archived_waits_a_year_for_somebody_who_does(store: Store, actor: Actor) -> None:
    """Where nobody pruned for a day more, it was gone, and in no archive."""
    store.retention = retention_of(KeepSettings(archive=True))
    await ended(store, actor)
    keys = [store.keys.flow(f"f{number}") for number in range(3)]
    keys += [key.decode() for tag in store.partitions for key in await keys_like(store, f"{tag}{FINISHED}*")]
    assert len(keys) == 4
    assert min([await store.connection.command("PTTL", key) for key in keys]) > 366 * 86_400_000


async def test_failed_and_cancelled_flows_are_found_when_their_retention_is_over(store: Store, actor: Actor) -> None:
    await ended(store, actor)
    store.retention = AT_ONCE
    assert await Pruner(store, Views(store)).run_once() == 2
    assert [flow for pages in Views(store).indexes("failed") async for flow in pages] == []


async def test_pruning_one_flow_twice_does_not_take_the_plan_from_the_others(store: Store, actor: Actor) -> None:
    """Two pruners were given the same flow, or the answer of the first call was lost."""
    first, second = in_one_partition(store, 2)
    await store.submit([(first, chain(2)), (second, chain(2))])
    await store.cancel(first, "", 2)
    tag, before = store.partitions[0], await Views(store).now() + 1_000
    entry = chain(2).plan.digest.encode() + first.encode()
    assert [await store.prune(tag, before, [entry]) for _ in range(3)] == [1, 0, 0]
    assert await actor.finish() == 2
    assert (await snapshots(store).snapshot(second)).state == "completed"


async def test_a_plan_goes_with_its_last_flow(store: Store, actor: Actor) -> None:
    first, second = in_one_partition(store, 2)
    spec = one_stage()
    await store.submit([(first, spec), (second, spec)])
    await actor.finish()
    tag, before = store.partitions[0], await Views(store).now() + 1_000
    key = f"{tag}:p:{spec.plan.digest}"
    for flow_id, remains in ((first, 1), (second, 0)):
        await store.prune(tag, before, [spec.plan.digest.encode() + flow_id.encode()])
        assert await store.connection.command("EXISTS", key) == remains


async def test_a_flow_retried_since_is_not_pruned(store: Store, actor: Actor) -> None:
    spec = one_stage()
    await store.submit([("f1", spec)])
    await actor.report(failed(await actor.claim_one()))
    await retry(store, "f1", spec.plan)
    before = await Views(store).now() + 1_000
    assert await store.prune(store.keys.tag_of("f1"), before, [spec.plan.digest.encode() + b"f1"]) == 0
    assert await actor.finish() == 1
