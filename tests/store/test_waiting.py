"""Where a stage waits: what a claim would take counts, and what it would only drop does not."""

from __future__ import annotations

import msgspec
import pytest

from flowq.store import due_soon
from flowq.store.keys import DUE, LANE, LANES, TENANT_LANES
from flowq.store.pauses import Pauses
from flowq.store.store import Store
from flowq.store.views import Views
from tests.scanned import keys_like
from tests.store.acting import Actor, in_one_partition, retried
from tests.store.graphs import chain, one_stage, wide

pytestmark = pytest.mark.anyio


async def test_what_was_added_waits_in_its_partition_until_it_is_claimed(store: Store, actor: Actor) -> None:
    (flow_id,) = in_one_partition(store, 1)
    views, routes = Views(store), ["default:a", "default:s"]
    assert await views.waiting(routes) == []
    await store.submit([(flow_id, one_stage())])
    assert await views.waiting(routes) == [store.keys.tag_of(flow_id)]
    assert await views.waiting(["default:s"]) == []
    claim = await actor.claim_one()
    assert await views.waiting(routes) == []
    await actor.complete(claim)
    assert await views.waiting(routes) == []


async def test_a_released_and_a_promoted_stage_wait(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(2, attempts=3))])
    views = Views(store)
    await actor.complete(await actor.claim_one())
    assert await views.waiting(["default:s"]) == [store.keys.tag_of("f1")]
    await actor.report(retried(await actor.claim_one(), 0))
    assert await views.waiting(["default:s"]) == []
    await actor.exchange(tag=store.keys.tag_of("f1"))
    assert await views.waiting(["default:s"]) == [store.keys.tag_of("f1")]


async def test_the_rest_of_a_range_waits(store: Store, actor: Actor) -> None:
    await store.submit([("f1", wide(5))])
    await actor.claim(2)
    assert await Views(store).waiting(["default:leaf"]) == [store.keys.tag_of("f1")]
    await actor.claim(10)
    assert await Views(store).waiting(["default:leaf"]) == []


async def test_what_is_left_of_a_cancelled_range_does_not_wait(store: Store) -> None:
    await store.submit([("f1", wide(5))])
    await store.cancel("f1", "", 6)
    assert await Views(store).waiting(["default:leaf"]) == []


async def test_among_many_that_were_cancelled_the_one_that_waits_is_found(store: Store) -> None:
    first, *others = in_one_partition(store, 450)
    await store.submit([(flow_id, one_stage()) for flow_id in (first, *others)])
    for flow_id in others:
        await store.cancel(flow_id, "", 1)
    assert await Views(store).waiting(["default:a"]) == [store.partitions[0]]
    await store.cancel(first, "", 1)
    assert await Views(store).waiting(["default:a"]) == []


async def test_a_flow_that_was_added_again_under_its_id_waits_by_its_new_entry_only(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    await store.cancel("f1", "", 1)
    await store.connection.command("DEL", store.keys.flow("f1"))
    assert await Views(store).waiting(["default:a"]) == []
    await store.submit([("f1", one_stage())])
    assert await Views(store).waiting(["default:a"]) == [store.keys.tag_of("f1")]
    assert len(await actor.claim(5)) == 1
    assert await Views(store).waiting(["default:a"]) == []


async def test_what_stands_in_a_paused_queue_does_not_wait_until_it_is_resumed(store: Store) -> None:
    await store.submit([("f1", one_stage()), ("f2", one_stage(queue="open"))])
    await Pauses(store).pause("queue", "default", "me")
    assert await Views(store).waiting(["default:a"]) == []
    assert await Views(store).waiting(["default:a", "open:a"]) == [store.keys.tag_of("f2")]
    await Pauses(store).resume("queue", "default")
    assert await Views(store).waiting(["default:a"]) == [store.keys.tag_of("f1")]


@pytest.mark.parametrize("tenant", ["", "acme"])
async def test_entries_of_cancelled_flows_stay_until_a_worker_of_their_queue_passes_them(
    store: Store, actor: Actor, tenant: str
) -> None:
    for flow_id in in_one_partition(store, 3):
        await store.submit([(flow_id, one_stage().with_options(tenant=tenant) if tenant else one_stage())])
        await store.cancel(flow_id, "", 1)
    lanes = [f"{store.partitions[0]}{word}*" for word in (LANES, LANE, TENANT_LANES)]
    assert [len(await keys_like(store, lane)) for lane in lanes] == [1, 1, 1 if tenant else 0]
    assert await actor.claim(5) == []
    assert [await keys_like(store, lane) for lane in lanes] == [[], [], []]


async def test_rubbish_in_a_lane_or_behind_it_does_not_wait(store: Store) -> None:
    words, head, record, text = in_one_partition(store, 4)
    tag = store.partitions[0]
    await store.submit([(flow_id, one_stage()) for flow_id in (words, head, record, text)])
    scribbled = "scribbled by hand", b"\xff\xff", "7:nothing", "0:" + words, f"0@{'9' * 5_000}:{text}"
    await store.connection.command("RPUSH", f"{tag}:q:default:a:0", *scribbled)
    no_text = msgspec.msgpack.encode(["r", 0, 0, 0, "", 0, 0, 0, "", "????????", 0, []]).replace(b"????????", b"\xff" * 8)
    await store.connection.commands(
        ("DEL", store.keys.flow(words)),
        ("SET", store.keys.flow(words), "rubbish", "EX", 60),
        ("HSET", store.keys.flow(head), "m", "rubbish"),
        ("HSET", store.keys.flow(record), "0", "rubbish"),
        ("HSET", store.keys.flow(text), "0", no_text),
        ("ZADD", f"{tag}:z:default:a", 0, b"\xff"),
    )
    assert await Views(store).waiting(["default:a"]) == []


async def test_deadlines_among_what_is_due_soon_do_not_hide_what_comes_behind_them(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due_soon, "_READ_MAX", 3)
    first, second, last = in_one_partition(store, 3)
    await store.submit([(flow_id, one_stage(queue="other").with_options(delay=1)) for flow_id in (first, second)])
    assert not await due_soon.is_due_soon(store, ["default:a"], 60_000)
    await store.submit([(last, one_stage().with_options(delay=3))])
    await store.connection.command("ZADD", store.keys.tag_of(last) + DUE, await Views(store).now(), f"e:{first}")
    assert await due_soon.is_due_soon(store, ["default:a"], 60_000)
