"""How much waits: what a claim would take is counted, and of very much a part is read."""

from __future__ import annotations

from typing import Any

import pytest

from flowq.model.fleet import QueueSnapshot
from flowq.model.spec import FlowSpec
from flowq.store import due_samples, fleet, lane_samples
from flowq.store.fleet import Fleet
from flowq.store.keys import PAUSED
from flowq.store.pauses import Pauses
from flowq.store.store import Store
from flowq.store.views import Views
from tests.store.acting import Actor, failed, in_one_partition
from tests.store.graphs import chain, drawn, one_stage
from tests.store.test_endings import retry
from tests.store.test_maps import begun, claims_of, completed, expand, mapped_flow

pytestmark = pytest.mark.anyio


async def default(store: Store) -> QueueSnapshot:
    """What there is to do in the queue of that name."""
    return {queue.name: queue for queue in (await Fleet(store, Views(store)).queues()).queues}["default"]


def of_tenant(spec: FlowSpec[Any], tenant: str) -> FlowSpec[Any]:
    return spec.with_options(tenant=tenant)


async def test_flows_that_were_cancelled_are_not_counted_and_do_not_hide_how_long_others_wait(store: Store) -> None:
    ids = in_one_partition(store, 30)
    await store.submit([(flow_id, one_stage()) for flow_id in ids])
    for flow_id in ids[:20]:
        await store.cancel(flow_id, "", 1)
    found = await default(store)
    assert (found.ready, found.is_estimate) == (10, False)
    created_at, now = (await Views(store).head(ids[20])).created_at, await Views(store).now()
    assert found.oldest_seconds is not None
    assert found.oldest_seconds <= (now - created_at) / 1000
    for flow_id in ids[20:]:
        await store.cancel(flow_id, "", 1)
    found = await default(store)
    assert (found.ready, found.oldest_seconds) == (0, None)


async def test_very_many_cancelled_flows_do_not_hide_that_others_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lane_samples, "READ_MAX", 20)
    ids = in_one_partition(store, 80)
    await store.submit([(flow_id, one_stage()) for flow_id in ids])
    for flow_id in ids[:60]:
        await store.cancel(flow_id, "", 1)
    found = await default(store)
    assert (found.ready, found.is_estimate) == (40, True)
    assert found.oldest_seconds is not None
    await store.submit([("last", one_stage())])
    for flow_id in (*ids[:40], *ids[50:], "last"):
        await store.cancel(flow_id, "", 1)
    assert (await default(store)).ready > 0


async def test_entries_of_an_earlier_flow_of_the_id_are_not_counted(store: Store) -> None:
    for _ in range(3):
        await store.connection.command("DEL", store.keys.flow("f1"))
        await store.submit([("f1", one_stage())])
        moment = await Views(store).now()
        while await Views(store).now() == moment:
            pass
    assert (await default(store)).ready == 1


async def test_paused_flows_and_pipelines_are_not_counted_and_a_paused_queue_is(store: Store, actor: Actor) -> None:
    await store.submit([(f"f{number}", one_stage()) for number in range(5)] + [("other", chain(2, pipeline="other"))])
    pauses = Pauses(store)
    await pauses.pause("flow", "f0", "me")
    assert (await default(store)).ready == 5
    await pauses.pause("pipeline", "other", "me")
    assert (await default(store)).ready == 4
    assert await Views(store).waiting(["default:s"]) == []
    await pauses.pause("queue", "default", "me")
    assert (await default(store)).ready == 4
    for tag in store.partitions:  # puts aside what it finds paused
        await actor.exchange(tag=tag, capacity=1)
    assert (await default(store)).ready == 4
    await pauses.resume("flow", "f0")
    await pauses.resume("pipeline", "other")
    assert (await default(store)).ready == 6


async def test_items_of_a_map_are_counted_until_it_ends(store: Store, actor: Actor) -> None:
    await begun(store, actor, 7)
    assert (await default(store)).ready == 7
    assert await Views(store).waiting(["default:a"]) == [store.keys.tag_of("f1")]
    await store.cancel("f1", "", 2)
    assert (await default(store)).ready == 0


async def test_items_of_a_flow_that_was_retried_are_an_estimate(store: Store, actor: Actor) -> None:
    await begun(store, actor, 7)
    claims = await claims_of(actor, 7)
    for claim in claims[2:]:
        assert await actor.report(await completed(actor, claim)) == ""
    for claim in claims[:2]:
        assert await actor.report(failed(claim)) == ""
    assert await retry(store, "f1", mapped_flow().plan)
    for claim in await actor.claim(5):  # the map itself
        await expand(actor, claim, 7)
    found = await default(store)
    assert (found.ready, found.is_estimate) == (7, True)
    while claims := await claims_of(actor, 7):
        for claim in claims:
            assert await actor.report(await completed(actor, claim)) == ""
    found = await default(store)
    assert (found.ready, found.is_estimate) == (0, False)


@pytest.mark.parametrize("spec", [one_stage(), drawn({"a": [], "b": []})])
async def test_a_flow_that_was_cancelled_and_is_retried_is_counted_once(store: Store, spec: FlowSpec[Any]) -> None:
    await store.submit([("f1", spec)])
    await store.cancel("f1", "", len(spec.plan.stages))
    assert await retry(store, "f1", spec.plan)
    assert (await default(store)).ready == len(spec.plan.stages)


async def test_where_not_all_that_is_due_was_read_all_queues_are_estimates(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(due_samples, "_PARTITION_MAX", 5)
    ids = in_one_partition(store, 9)
    await store.submit([(flow_id, one_stage().with_options(delay=60)) for flow_id in ids])
    await store.submit([("other", one_stage(queue="other"))])
    found = {queue.name: queue for queue in (await Fleet(store, Views(store)).queues()).queues}
    assert (found["default"].delayed, found["other"].ready, found["other"].is_estimate) == (9, 1, True)


async def test_what_is_due_waits_and_in_a_paused_pipeline_does_not(store: Store) -> None:
    soon = [one_stage().with_options(delay=0.001), one_stage(pipeline="other").with_options(delay=0.001)]
    await store.submit(list(zip(("f1", "f2"), soon, strict=True)))
    until = await Views(store).now() + 2
    while await Views(store).now() < until:
        pass
    found = await default(store)
    assert (found.ready, found.oldest_seconds is not None) == (2, True)
    await Pauses(store).pause("pipeline", "other", "me")
    assert (await default(store)).ready == 1


async def test_rubbish_among_what_is_paused_pauses_nothing(store: Store) -> None:
    await store.submit([("f1", one_stage())])
    for tag in store.partitions:
        await store.connection.command("HSET", tag + PAUSED, b"\xff", b"\xff", "queue:default", "no pause")
    assert (await default(store)).ready == 1
    assert await Views(store).waiting(["default:a"]) == [store.keys.tag_of("f1")]
    for tag in store.partitions:
        await store.connection.commands(("DEL", tag + PAUSED), ("SET", tag + PAUSED, "no hash"))
    assert (await default(store)).pause is None


async def test_of_many_lanes_some_of_each_queue_are_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = in_one_partition(store, 120)
    specs = [of_tenant(one_stage(queue=f"q{number % 3}"), f"t{number // 3 % 10}") for number in range(120)]
    await store.submit(list(zip(ids, specs, strict=True)))
    exact = {queue.name: (queue.ready, queue.is_estimate) for queue in (await Fleet(store, Views(store)).queues()).queues}
    assert exact == {f"q{number}": (40, False) for number in range(3)}
    for read, named in ((90, 20_000), (12, 20_000), (3, 20_000), (5_000, 12)):
        monkeypatch.setattr(lane_samples, "READ_MAX", read)
        monkeypatch.setattr(fleet, "_LANES_MAX", named)
        found = {queue.name: (queue.ready, queue.is_estimate) for queue in (await Fleet(store, Views(store)).queues()).queues}
        assert found == {f"q{number}": (40, True) for number in range(3)}


@pytest.mark.parametrize(
    ("lengths", "shares"),
    [
        ([3, 0, 5], [3, 0, 5]),
        ([9_000], [1_000]),
        ([9_000] * 10, [500] * 10),
        ([10] * 400 + [2_000, 3_000], [10] * 400 + [500, 500]),
        ([2] * 6_000, [1] * 5_000 + [0] * 1_000),
    ],
)
def test_short_lanes_leave_their_share_to_the_others(lengths: list[int], shares: list[int]) -> None:
    assert lane_samples._shares(lengths) == shares
