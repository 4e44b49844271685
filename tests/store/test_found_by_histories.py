"""What random histories found (tests/property), each as the shortest history that shows it."""

from __future__ import annotations

import pytest

from flowq.model.outcome import Wait
from flowq.model.restart import restart
from flowq.model.spec import FlowOptions, FlowSpec
from flowq.model.timing import Timing
from flowq.store.keys import DUE
from flowq.store.pauses import Pauses
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import again_of
from tests.store.acting import Actor, again, snapshots, states, suspended
from tests.store.graphs import one_stage
from tests.store.test_maps import begun, claims_of, completed, mapped_flow

pytestmark = pytest.mark.anyio

HOUR_MS = 3_600_000


async def test_a_flow_that_was_retried_before_its_beginning_goes_on_after_a_pause(store: Store, actor: Actor) -> None:
    """It was taken for one that still waits for its time, which nothing would ever have ended."""
    spec = one_stage()
    later = FlowSpec(spec.plan, {}, spec.inputs, options=FlowOptions(timing=Timing(delay_ms=HOUR_MS)))
    await store.submit([("f1", later)])
    await store.cancel("f1", "", 1)
    snapshot = await snapshots(store).snapshot("f1")
    assert await store.retry("f1", snapshot.seq, again(snapshot, spec.plan))
    await Pauses(store).pause("flow", "f1", "")
    await Pauses(store).resume("flow", "f1")
    assert await states(store, "f1") == "ready: ready"
    assert await actor.finish() == 1


async def test_a_plan_is_read_where_its_flow_is_though_flows_elsewhere_were_pruned(store: Store, actor: Actor) -> None:
    """The rest of a plan that was begun to be read in another partition was missing, and its stages failed."""
    ids: dict[str, str] = {}
    for number in range(100):
        ids.setdefault(store.keys.tag_of(f"f{number}"), f"f{number}")
    first, *others = ids.values()
    await store.submit([(flow_id, one_stage()) for flow_id in ids.values()])
    digest = one_stage().plan.digest
    await store.cancel(first, "", 1)  # which reads the head of its plan
    assert await store.prune(store.keys.tag_of(first), await Views(store).now() + HOUR_MS, [f"{digest}{first}".encode()]) == 1
    assert await actor.finish() == len(others)


async def test_a_paused_flow_that_ends_leaves_nothing_that_waits_for_a_time(store: Store, actor: Actor) -> None:
    """An entry was left for what is put aside of the flows beneath it, of which there were none."""
    await store.submit([("f1", one_stage())])
    claim = await actor.claim_one()
    await Pauses(store).pause("flow", "f1", "")
    await actor.complete(claim)
    tag = store.keys.tag_of("f1")
    assert await states(store, "f1") == "completed: completed"
    assert await store.connection.command("ZRANGE", tag + DUE, 0, -1) == []


async def test_a_flow_that_was_retried_before_its_beginning_begins_with_its_first_claim(store: Store, actor: Actor) -> None:
    """It was said to have begun never, and to be ready when it was paused and resumed."""
    spec = one_stage()
    await store.submit([("f1", spec)])
    await store.cancel("f1", "", 1)
    snapshot = await snapshots(store).snapshot("f1")
    assert await store.retry("f1", snapshot.seq, again(snapshot, spec.plan))
    await actor.claim_one()
    assert (await snapshots(store).snapshot("f1")).started_at is not None
    await Pauses(store).pause("flow", "f1", "")
    await Pauses(store).resume("flow", "f1")
    assert await states(store, "f1") == "running: running"


async def test_what_was_suspended_of_a_map_that_ended_early_runs_again_with_the_map(store: Store, actor: Actor) -> None:
    """When one of its items was run again before what was left was stopped, the suspended one waited for ever: its time had come
    when the flow had ended."""
    await begun(store, actor, 2, need=1)
    first, straggler = await claims_of(actor, 2)
    assert await actor.report(suspended(straggler, Wait("sleep", "", "#0", HOUR_MS))) == ""
    assert await actor.report(await completed(actor, first)) == ""
    assert await actor.finish() == 1
    tag = store.keys.tag_of("f1")
    await store.connection.command("ZADD", tag + DUE, 1, f"{straggler.index}:f1")
    assert await claims_of(actor, 1) == []
    plan, is_retried = mapped_flow().plan, False
    while not is_retried:  # what was left is stopped: the flow has changed
        snapshot = await snapshots(store).snapshot("f1")
        restarted = restart(plan, [stage.state for stage in snapshot.graph], [], {0: [0]})
        is_retried = await store.retry("f1", snapshot.seq, again_of(plan, restarted))
    assert {item.index for item in await claims_of(actor, 3)} == {first.index, straggler.index}
