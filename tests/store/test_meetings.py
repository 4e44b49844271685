"""Where features meet in one script: tenants and pauses, maps and suspensions, what stages spawned and what happens above it."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flowq.engine.duties.closing import cancel, finish_closing
from flowq.model.items import item_index
from flowq.model.names import spawned_id
from flowq.model.outcome import Claim, Wait
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.model.timing import Timing
from flowq.store.finder import Finder
from flowq.store.maps import disband
from flowq.store.pauses import Pauses
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views
from tests.store.acting import Actor, everything, retried, snapshots, states, suspended
from tests.store.graphs import chain, one_stage
from tests.store.test_maps import begun, completed, expand, mapped_flow
from tests.store.test_suspensions import GO, HOUR, spawner_of

pytestmark = pytest.mark.anyio


def of_tenant(spec: FlowSpec[Any], tenant: str, **options: Any) -> FlowSpec[Any]:
    """The same flow for a tenant."""
    return FlowSpec(spec.plan, spec.literals, spec.inputs, options=FlowOptions(tenant=tenant, **options))


async def spawned(store: Store, actor: Actor, spec: FlowSpec[Any] = chain(1)) -> tuple[Claim, str]:
    """A stage that runs and has spawned a flow."""
    await store.submit([("f1", chain(1, attempts=3))])
    claim = await actor.claim_one_of("f1")
    child = spawned_id("f1", "s-0", "a")
    assert await Suspensions(store).spawn(child, spec, spawner_of(claim)) is not None
    return claim, child


# ── tenants ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("what", [("flow", "f1"), ("pipeline", "drawn"), ("queue", "default")])
async def test_what_was_paused_goes_back_to_the_lane_of_its_tenant(store: Store, actor: Actor, what: tuple[Any, str]) -> None:
    await store.submit([("f1", of_tenant(one_stage(), "acme"))])
    await Pauses(store).pause(*what, "")
    assert await actor.claim(5) == []
    await Pauses(store).resume(*what)
    lanes = [key for key in await everything(store) if b":q:default:a" in key]
    assert [key.rpartition(b":")[2] for key in lanes] == [b"acme"]
    assert (await actor.claim_one()).flow_id == "f1"


async def test_a_stage_that_was_resumed_while_its_flow_is_paused_stands_first_afterwards(store: Store, actor: Actor) -> None:
    await store.submit([("f1", of_tenant(one_stage(), "acme"))])
    await actor.report(suspended(await actor.claim_one(), GO))
    await Pauses(store).pause("flow", "f1", "")
    await Suspensions(store).signal("f1", "go", b"\x01")
    assert await actor.claim(5) == []
    await store.submit([(flow_id, of_tenant(one_stage(), "acme")) for flow_id in ("f2", "f3", "f4")])
    await Pauses(store).resume("flow", "f1")
    tag = store.keys.tag_of("f1")
    assert [claim.flow_id for claim in await actor.exchange_claims(tag, 1)] == ["f1"]


async def test_stages_of_tenants_wait_where_idle_workers_look(store: Store, actor: Actor) -> None:
    await store.submit([("f1", of_tenant(chain(2), "acme"))])
    assert await Views(store).waiting(["default:s"]) == [store.keys.tag_of("f1")]
    await actor.report(suspended(await actor.claim_one(), GO))
    assert await Views(store).waiting(["default:s"]) == []
    await Suspensions(store).signal("f1", "go", b"\x01")
    assert await Views(store).waiting(["default:s"]) == [store.keys.tag_of("f1")]


async def test_stages_of_flows_that_have_begun_go_first_within_a_tenant_too(store: Store, actor: Actor) -> None:
    plan = msgspec.structs.replace(chain(2).plan, finish_first=True)
    spec = of_tenant(FlowSpec(plan, {}, b"\x80"), "acme")
    tag = store.keys.tag_of("f1")
    flows = [name for number in range(200) if store.keys.tag_of(name := f"f{number}") == tag][:4]
    await store.submit([(name, spec) for name in flows])
    (first,) = await actor.exchange_claims(tag, 1)
    await actor.complete(first)
    (second,) = await actor.exchange_claims(tag, 1)
    assert (second.flow_id, second.index) == (first.flow_id, 1)


async def test_the_items_of_a_tenants_flow_wait_in_the_lane_of_the_tenant(store: Store, actor: Actor) -> None:
    await store.submit([("f1", of_tenant(mapped_flow(), "acme"))])
    await expand(actor, await actor.claim_one_of("f1"), 3)
    lanes = [key for key in await everything(store) if b":q:default:a" in key]
    assert [key.rpartition(b":")[2] for key in lanes] == [b"acme"]
    assert len(await actor.claim(5)) == 3


# ── items that are suspended ─────────────────────────────────────────────────────────────────────────────────────────


async def test_an_item_is_suspended_and_goes_on_when_its_signal_comes(store: Store, actor: Actor) -> None:
    await begun(store, actor, 2)
    first, second = await actor.claim(2)
    assert await actor.report(suspended(first, GO)) == ""
    assert (await snapshots(store).snapshot("f1", lambda _, __: (0,))).state == "running"
    await actor.report(await completed(actor, second))
    await Suspensions(store).signal("f1", "go", b"\x01")
    again = await actor.claim_one()
    assert (again.index, again.attempt, again.token.fence) == (first.index, 1, 2)
    await actor.report(await completed(actor, again))
    assert await states(store, "f1") == "running: completed ready"


async def test_an_item_that_sleeps_is_woken_by_its_time_and_by_what_it_spawned(store: Store, actor: Actor) -> None:
    await begun(store, actor, 2)
    first, second = await actor.claim(2)
    child = spawned_id("f1", "a", "a")
    assert await Suspensions(store).spawn(child, chain(1), spawner_of(first)) is not None
    await actor.report(suspended(first, Wait("flow", child)))
    await actor.report(suspended(second, HOUR))
    await actor.complete(await actor.claim_one_of(child))
    assert (await actor.claim_one()).index == first.index
    tag = store.keys.tag_of("f1")
    await store.connection.command("ZADD", f"{tag}:due", await Views(store).now() - 5, f"{second.index}:f1")
    assert (await actor.claim_one()).index == second.index


async def test_a_suspended_item_of_a_map_that_is_over_is_cancelled_and_its_timer_forgotten(store: Store, actor: Actor) -> None:
    await begun(store, actor, 2, need=1)
    first, second = await actor.claim(2)
    await actor.report(suspended(first, HOUR))
    await actor.report(await completed(actor, second))
    await disband(store, "f1", 0)
    tag = store.keys.tag_of("f1")
    assert await store.connection.command("ZCARD", f"{tag}:due") == 0
    (item,) = (await snapshots(store).snapshot("f1", lambda _, __: (0,))).stage("a").items.listed  # type: ignore[union-attr]
    assert item.state == "cancelled"


async def test_a_map_is_not_woken_by_a_stray_time(store: Store, actor: Actor) -> None:
    await begun(store, actor, 2)
    tag = store.keys.tag_of("f1")
    await store.connection.command("ZADD", f"{tag}:due", await Views(store).now() - 5, "0:f1")
    assert sorted(claim.index for claim in await actor.claim(5)) == [item_index(0, 0), item_index(0, 1)]


# ── flows beneath ────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_spawned_is_in_no_index_but_its_plan_is_counted(store: Store, actor: Actor) -> None:
    claim, child = await spawned(store, actor, of_tenant(chain(2, pipeline="below"), "acme"))
    finder = Finder(store, Views(store))
    assert await finder.pipelines() == ["drawn"]
    await store.submit([("f2", chain(2, pipeline="below"))])
    assert await finder.pipelines() == ["below", "drawn"], "though its plan may have had a flow already"
    await actor.finish()
    assert await store.connection.command("TTL", store.keys.flow(child)) == -1
    await actor.complete(claim)


async def test_a_pause_holds_back_what_a_stage_spawned_and_its_end_lets_it_go(store: Store, actor: Actor) -> None:
    claim, child = await spawned(store, actor)
    await Pauses(store).pause("flow", "f1", "")
    assert await actor.claim(5) == []
    reason = (await snapshots(store).snapshot(child)).stage("s-0").reason
    assert reason is not None
    assert reason.code == "paused"
    await actor.complete(claim)
    assert await states(store, "f1") == "completed: completed"
    await actor.exchange(tag=store.keys.tag_of("f1"))
    assert (await actor.claim_one()).flow_id == child


async def test_a_cancel_reaches_the_flows_beneath_and_those_that_have_not_begun(store: Store, actor: Actor) -> None:
    await begun(store, actor, 2)
    first, second = await actor.claim(2)
    begun_child, later_child = spawned_id("f1", "a", "a"), spawned_id("f1", "a", "b")
    later = of_tenant(chain(1), "", timing=Timing(delay_ms=60_000))
    assert await Suspensions(store).spawn(begun_child, chain(1), spawner_of(first)) is not None
    assert await Suspensions(store).spawn(later_child, later, spawner_of(second)) is not None
    await actor.report(suspended(first, Wait("flow", begun_child)))
    assert await store.cancel("f1", "enough", 2) == "cancelled"
    views = Views(store)
    assert sorted(await views.closing()) == [begun_child, later_child]
    for member in await views.closing():
        await finish_closing(store, member)
    assert await views.closing() == []
    for child in (begun_child, later_child):
        snapshot = await snapshots(store).snapshot(child)
        assert (snapshot.state, snapshot.cancel_reason) == ("cancelled", "the flow above was cancelled (enough)")


async def test_a_deadline_above_ends_what_was_spawned(store: Store, actor: Actor) -> None:
    await store.submit([("f1", of_tenant(chain(1), "", timing=Timing(deadline_ms=60_000)))])
    claim = await actor.claim_one_of("f1")
    child = spawned_id("f1", "s-0", "a")
    await Suspensions(store).spawn(child, chain(1), spawner_of(claim))
    tag = store.keys.tag_of("f1")
    head = await Views(store).head("f1")
    await store.connection.command("ZADD", f"{tag}:due", 1, "e:f1")
    head.deadline_at = 1
    await store.connection.command("HSET", store.keys.flow("f1"), "m", msgspec.msgpack.encode(head))
    answer = await actor.exchange(tag=tag)
    assert answer is not None
    assert answer.closing == ["f1"]
    await finish_closing(store, "f1")
    assert await states(store, "f1") == "failed: cancelled"
    assert await states(store, child) == "cancelled: cancelled", "at once: no duty has to come by"


async def test_whoever_cancels_a_flow_cancels_what_stands_beneath_it(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(1))])
    claim = await actor.claim_one()
    child = spawned_id("f1", "s-0", "a")
    await Suspensions(store).spawn(child, chain(1), spawner_of(claim))
    assert await cancel(store, "f1", "a schedule has fired again") == "cancelled"
    assert await states(store, child) == "cancelled: cancelled"
    assert await Views(store).closing() == []


async def test_a_flow_whose_last_stage_completes_in_the_moment_of_its_deadline_has_completed(store: Store, actor: Actor) -> None:
    await store.submit([("f1", of_tenant(chain(1), "", timing=Timing(deadline_ms=60_000)))])
    claim, tag = await actor.claim_one_of("f1"), store.keys.tag_of("f1")
    head = await Views(store).head("f1")
    await store.connection.command("ZADD", f"{tag}:due", 1, "e:f1")
    head.deadline_at = 1
    await store.connection.command("HSET", store.keys.flow("f1"), "m", msgspec.msgpack.encode(head))
    await actor.exchange(tag=tag)
    assert await states(store, "f1") == "failed: running"
    await actor.complete(claim)
    await finish_closing(store, "f1")
    assert await states(store, "f1") == "completed: completed"
    assert (await snapshots(store).snapshot("f1")).fail_reason == ""
    assert (await Views(store).closing(), await store.finish_closing("f1", 1)) == ([], "c")


async def test_a_flow_that_waits_for_its_time_takes_signals(store: Store) -> None:
    await store.submit([("f1", of_tenant(chain(1), "", timing=Timing(delay_ms=60_000)))])
    assert await Suspensions(store).signal("f1", "go", b"\x01") == "signalled"


async def test_a_stage_that_was_suspended_and_then_failed_waits_for_its_next_attempt_alone(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(1, attempts=3))])
    await actor.report(suspended(await actor.claim_one(), GO))
    await Suspensions(store).signal("f1", "go", b"\x01")
    await actor.report(retried(await actor.claim_one(), 60_000))
    assert await states(store, "f1") == "running: scheduled"
    assert (await Views(store).head("f1")).away == 0
