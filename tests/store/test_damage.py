"""Keys that somebody overwrote or deleted: others run on, nothing is written by halves, nothing is kept for ever."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import redis.asyncio

from flowq.artifacts.keys import FolderId
from flowq.engine.duties.duties import Closer, Pruner, Rescuer
from flowq.errors import CorruptState, FlowqError, SchemaNewer
from flowq.model.filter import FlowFilter
from flowq.model.keep import Keep
from flowq.store.finder import Finder
from flowq.store.store import Retention, Store
from flowq.store.views import Views
from tests.permanent import is_permanent
from tests.store.acting import Actor, everything, failed, in_one_partition, retried, snapshots
from tests.store.graphs import chain, one_stage, wide

pytestmark = pytest.mark.anyio

# The part of the key after the partition's tag; `%` stands for what differs.
SHARED = (
    "holders",
    "due",
    "events",
    "live",
    "failed",
    "cancelled",
    "closing",
    "q:default:s:0",
    "z:default:s",
    "w:default:s",
    "finished:%",
)
OWN = ("f:%", "p:%", "h:%", "x:%")


async def overwrite(store: Store, victim: str, actor: Actor, kind: str) -> str:
    """Puts rubbish of another type in the place of a key of the victim's partition."""
    hour = await Views(store).now() // 3_600_000
    own = {"f": victim, "p": chain(3).plan.digest, "h": actor.id, "x": actor.id, "finished": str(hour)}
    key = f"{store.keys.tag_of(victim)}:" + kind.replace("%", own.get(kind.partition(":")[0], ""))
    if kind == "holders":
        await store.connection.command("SET", key, "rubbish")
    else:
        await store.connection.commands(("DEL", key), ("SET", key, "rubbish", "EX", 600))
    return key


async def whole_or_nothing(store: Store, call: Callable[[], Awaitable[Any]]) -> Any:
    """Calls; a refusal must be one of ours and leave everything as it was."""
    before = await everything(store)
    try:
        return await call()
    except FlowqError:
        assert await everything(store) == before, "a refused call left something behind"


@pytest.mark.parametrize("kind", [*SHARED, *OWN])
async def test_an_overwritten_key_stops_nobody_else_and_leaves_nothing_by_halves(store: Store, actor: Actor, kind: str) -> None:
    victim, other, ended, cancelled, later = in_one_partition(store, 5)
    await store.submit([(victim, chain(3, attempts=3)), (ended, chain(3, attempts=3)), (cancelled, chain(3, attempts=3))])
    claims = {claim.flow_id: claim for claim in await actor.claim(10)}
    await overwrite(store, victim, actor, kind)
    tag = store.keys.tag_of(victim)

    await whole_or_nothing(store, lambda: store.submit([(other, one_stage())]))
    outcome = await actor.completed(claims[victim]) if kind != "p:%" else retried(claims[victim])
    await whole_or_nothing(store, lambda: actor.exchange(outcome))
    await whole_or_nothing(store, lambda: actor.exchange(retried(claims[ended], 1)))
    await whole_or_nothing(store, lambda: actor.exchange(failed(claims[ended])))
    await whole_or_nothing(store, lambda: store.cancel(cancelled, "", 3))
    await whole_or_nothing(store, lambda: actor.exchange(tag=tag, capacity=5, parks=True))
    await whole_or_nothing(store, lambda: store.renew(tag, 15_000, [actor.id]))
    for duty in (Rescuer(store), Closer(store, Views(store)), Pruner(store, Views(store))):
        await whole_or_nothing(store, duty.run_once)
    await whole_or_nothing(store, lambda: store.rescue(tag, actor.id, "gone", is_crash=False))

    # From then on it is as if nothing had happened, for flows of the same partition too.
    newcomer = await Actor(store, routes=("a", "leaf", "top")).begin()
    await store.submit([(later, wide(5))])
    assert await newcomer.finish() >= 6
    assert (await snapshots(store).snapshot(later)).state == "completed"
    assert (await snapshots(store).snapshot(other)).state == "completed"


@pytest.mark.parametrize("kind", OWN)
async def test_a_deleted_key_costs_at_most_its_own_flow(store: Store, actor: Actor, kind: str) -> None:
    victim, other = in_one_partition(store, 2)
    await store.submit([(victim, chain(3)), (other, one_stage())])
    claims = {claim.flow_id: claim for claim in await actor.claim(2, ["default:s", "default:a"])}
    outcome = await actor.completed(claims[victim])
    await store.connection.command("DEL", await overwrite(store, victim, actor, kind))
    assert await actor.exchange(outcome) is not None
    assert await actor.complete(claims[other]) == ""
    assert (await snapshots(store).snapshot(other)).state == "completed"


async def test_a_lost_table_of_leases_is_noticed_by_who_had_one(store: Store, actor: Actor) -> None:
    await store.submit([("f1", one_stage())])
    await actor.claim_one()
    await store.connection.command("DEL", f"{store.keys.tag_of('f1')}:holders")
    assert await actor.exchange(tag=store.keys.tag_of("f1")) is None
    assert await store.rescue(store.keys.tag_of("f1"), actor.id, "its lease was lost", is_crash=False) == 1
    assert len(await (await Actor(store).begin()).claim(1)) == 1


async def test_members_that_are_none_stop_no_partition(store: Store, actor: Actor) -> None:
    await store.submit([("f1", chain(2))])
    tag = store.keys.tag_of("f1")
    rubbish = [
        ("due", "rubbish"),
        ("due", b"\xff"),
        (f"x:{actor.id}", "rubbish"),
        ("z:default:s", "rubbish"),
        ("closing", b"\xff"),
        ("holders", b"\xff"),
        ("failed", b"\xff"),
        ("cancelled", b"\xff"),
        ("by:pipeline:drawn", b"\xff"),
    ]
    for key, member in rubbish:
        add = ("SADD", f"{tag}:{key}") if key.startswith("x:") else ("ZADD", f"{tag}:{key}", 0)
        await store.connection.command(*add, member)
    for duty in (Closer(store, Views(store)), Rescuer(store), Pruner(store, Views(store))):
        await duty.run_once()
    await store.connection.command("DEL", f"{tag}:h:".encode() + b"\xff")
    assert [flow.id for flow in await Finder(store, Views(store)).list(FlowFilter(), 10)] == ["f1"]
    claim = await actor.claim_one()
    assert await actor.complete(claim) == ""
    assert await store.rescue(tag, actor.id, "killed", is_crash=True) == 1
    assert len(await (await Actor(store).begin()).claim(1)) == 1


async def ended(store: Store, actor: Actor, *states: str) -> list[str]:
    """Flows of one partition that ended so."""
    ids = in_one_partition(store, len(states))
    await store.submit([(flow_id, one_stage()) for flow_id in ids])
    claims = {claim.flow_id: claim for claim in await actor.claim(len(ids))}
    for flow_id, state in zip(ids, states, strict=True):
        if state == "cancelled":
            await store.cancel(flow_id, "", 1)
        else:
            await actor.report(failed(claims[flow_id]) if state == "failed" else await actor.completed(claims[flow_id]))
    return ids


@pytest.mark.parametrize("kind", ["failed", "cancelled", "finished", "by:pipeline:drawn", "events"])
async def test_an_index_of_another_type_holds_up_no_other_that_is_pruned(store: Store, actor: Actor, kind: str) -> None:
    states = [
        state for state in ("failed", "cancelled", "completed") if not state.startswith(kind[:6].replace("finish", "comple"))
    ]
    ids = await ended(store, actor, *states)
    tag, hour = store.keys.tag_of(ids[0]), await Views(store).now() // 3_600_000
    for key in [f"{tag}:{kind}{at}" for at in ((f":{hour}", f":{hour - 1}") if kind == "finished" else ("",))]:
        await store.connection.commands(("DEL", key), ("SET", key, "rubbish", "EX", 60))
    store.retention = Retention(-3_600_000, -1_000, -1_000)
    assert await Pruner(store, Views(store), most=Keep(failed_most=5)).run_once() == len(ids)


async def test_a_flow_of_another_type_holds_up_no_other_that_is_pruned_or_listed(store: Store, actor: Actor) -> None:
    ids = await ended(store, actor, "failed", "failed", "failed", "failed")
    key = [store.keys.flow(flow_id) for flow_id in ids]
    await store.connection.commands(
        ("HSET", key[0], "m", b"\xc1"), ("HSET", key[1], "p", b"\xff" * 16), ("DEL", key[2]), ("SET", key[2], "rubbish", "EX", 60)
    )
    tag = store.keys.tag_of(ids[0])
    views = Views(store)
    assert {flow.id for flow in await Finder(store, views).list(FlowFilter(state="failed"), 10)} == {ids[1], ids[3]}
    assert [head is not None for head in await views.heads(ids)] == [False, True, False, True]
    await store.connection.command("HSET", f"{tag}:pipelines", "other", msgspec.msgpack.encode(Keep(failed_ms=1)))
    store.retention = Retention(-3_600_000, -1_000, -1_000)
    assert await Pruner(store, views).run_once() == 4


async def test_what_a_pipeline_says_of_its_retention_costs_only_itself_when_it_is_rubbish(store: Store, actor: Actor) -> None:
    ids = await ended(store, actor, "failed", "cancelled")
    tag = store.keys.tag_of(ids[0])
    await store.connection.commands(
        ("HSET", f"{tag}:pipelines", "drawn", b"\xc1"), ("HSET", f"{tag}:pipelines", b"\xff", b"\x91\x01")
    )
    store.retention = Retention(-3_600_000, -1_000, -1_000)
    assert await Pruner(store, Views(store)).run_once() == 0, "it may say that they are kept for longer"
    await store.connection.commands(("DEL", f"{tag}:pipelines"), ("SET", f"{tag}:pipelines", "rubbish", "EX", 60))
    assert await Pruner(store, Views(store)).run_once() == 2, "what is of another type counts as gone"


@pytest.mark.parametrize(
    "damage", ["the flow", "its plan's name", "its plan's head", "its plan's stages", "its head", "its record", "no plan"]
)
async def test_what_a_damaged_flow_wrote_is_kept_and_no_other_is_held_up(store: Store, actor: Actor, damage: str) -> None:
    bad, good = in_one_partition(store, 2)
    await store.submit([(bad, wide(3)), (good, one_stage())])
    await actor.claim(10, ["default:a", "default:leaf"])
    flow, plan = store.keys.flow(bad), f"{store.keys.tag_of(bad)}:p:{wide(3).plan.digest}"
    commands = {
        "the flow": [("DEL", flow), ("SET", flow, "rubbish", "EX", 60)],
        "its plan's name": [("HSET", flow, "p", b"\xff" * 16)],
        "its plan's head": [("HSET", plan, "head", b"\xc1")],
        "its plan's stages": [("HSET", plan, "b0", b"\xc1")],
        "its head": [("HSET", flow, "m", b"\x91\x01")],
        "its record": [("HSET", flow, "0", b"\xc1")],
        "no plan": [("DEL", plan)],
    }
    await store.connection.commands(*commands[damage])
    stage = wide(3).plan.stages[0].name
    wrote = [FolderId(bad, stage, "1-abc"), FolderId(good, "a", "1-abc")]
    assert await Views(store).committed(wrote) == {wrote[0]}


async def test_a_damaged_flow_or_plan_holds_up_no_other_that_is_cancelled_or_pruned(store: Store, actor: Actor) -> None:
    damaged, other = in_one_partition(store, 2)
    await store.submit([(damaged, wide(600)), (other, wide(700))])
    tag, retention = store.partitions[0], b"\x93\xce\x0f\x00\x00\x00\xce\x0f\x00\x00\x00\xce\x0f\x00\x00\x00"
    for flow_id, stages in ((damaged, 601), (other, 701)):
        await store.connection.run("cancel", tag, flow_id, "", "n", stages, retention)
    await store.connection.commands(
        ("HSET", store.keys.flow(damaged), "o", b"\xc1"), ("HSET", store.keys.flow(damaged), "p", b"\xff" * 16)
    )
    await Closer(store, Views(store)).run_once()
    assert (await Views(store).head(other)).status == "k"
    store.retention = Retention(-1_000, -1_000, -1_000)
    await store.connection.command("SET", f"{tag}:p:{wide(700).plan.digest}", "rubbish", "EX", 60)
    assert await Pruner(store, Views(store)).run_once() == 1


@pytest.mark.parametrize("head", [b"\xc1", None])
async def test_a_plan_that_is_rubbish_or_gone_ends_no_duty(store: Store, head: bytes | None) -> None:
    damaged, other = in_one_partition(store, 2)
    await store.submit([(damaged, wide(600)), (other, wide(700))])
    tag, retention = store.partitions[0], b"\x93\xce\x0f\x00\x00\x00\xce\x0f\x00\x00\x00\xce\x0f\x00\x00\x00"
    for flow_id, stages in ((damaged, 601), (other, 701)):
        await store.connection.run("cancel", tag, flow_id, "", "n", stages, retention)
    plan = f"{tag}:p:{wide(600).plan.digest}"
    await store.connection.command(*(("HSET", plan, "head", head) if head else ("HDEL", plan, "head")))
    await Closer(store, Views(store)).run_once()
    assert [(await Views(store).head(flow_id)).status for flow_id in (damaged, other)] == ["z", "k"]


async def test_a_damaged_flow_is_said_to_be_damaged(store: Store) -> None:
    await store.submit([("f1", chain(2))])
    await store.connection.command("HSET", store.keys.flow("f1"), "0", b"\xc1rubbish")
    with pytest.raises(CorruptState, match="f1"):
        await snapshots(store).snapshot("f1")
    await store.connection.commands(("DEL", store.keys.flow("f1")), ("SET", store.keys.flow("f1"), "x", "EX", 60))
    with pytest.raises(CorruptState):
        await snapshots(store).snapshot("f1")


@pytest.mark.parametrize("record", [b"\x9c\xa1?\0\0\0\xa0\0\0\0\xa0\xa0\0\xc2", b"\x91\xa1r", b"\x00", b"", b"\xff" * 100])
async def test_no_rubbish_in_a_record_makes_reading_it_raise_anything_untyped(store: Store, record: bytes) -> None:
    await store.submit([("f1", chain(2))])
    await store.connection.command("HSET", store.keys.flow("f1"), "0", record)
    with pytest.raises(CorruptState, match="f1"):
        await snapshots(store).snapshot("f1")


async def test_keys_of_a_newer_release_are_refused(store: Store) -> None:
    await store.connection.command("HSET", store.keys.meta, "schema", 999)
    with pytest.raises(SchemaNewer):
        await Store(store.connection, store.keys.namespace).open()


async def test_all_clients_of_a_namespace_use_the_partitions_it_began_with(store: Store) -> None:
    other = Store(store.connection, store.keys.namespace)
    await other.open(partitions=7)
    assert other.partitions == store.partitions


async def test_every_key_expires_or_is_on_the_list_of_those_that_need_not(store: Store, actor: Actor, valkey_url: str) -> None:
    ids = in_one_partition(store, 4)
    await store.submit([(flow_id, chain(3, attempts=3)) for flow_id in ids[:3]])
    await store.submit([(ids[3], wide(600, literals=True))])
    claims = await actor.claim(3, ["default:s"])
    await actor.report(retried(claims[0], 60_000))
    await actor.report(failed(claims[1]))
    await store.cancel(claims[2].flow_id, "", 3)
    await actor.exchange(tag=store.partitions[0], capacity=1, parks=True, routes=["default:nothing"])
    async with redis.asyncio.Redis.from_url(valkey_url) as client:
        keys = [key.decode() for key in await everything(store)]
        eternal = [key for key in keys if await client.pttl(key) == -1]
    assert [key for key in eternal if not is_permanent(store.keys, key)] == []
    ended = {store.keys.flow(claims[1].flow_id), store.keys.flow(claims[2].flow_id)}
    assert ended.isdisjoint(eternal), "a flow that has ended expires even when no pruner runs"


@pytest.mark.parametrize(
    ("position", "rubbish"), [(10, "x"), (9, 5), (9, None), (0, 5), (11, 7), (11, True), (11, "zz"), (11, [{}])]
)
async def test_a_record_with_elements_of_other_types_stops_nobody_else(
    store: Store, actor: Actor, position: int, rubbish: object
) -> None:
    bad, *good = in_one_partition(store, 3)
    await store.submit([(bad, one_stage(attempts=3))])
    await actor.report(retried(await actor.claim_one(), 1))
    key = store.keys.flow(bad)
    record = msgspec.msgpack.decode(await store.connection.command("HGET", key, "0"))
    record[position] = rubbish
    await store.connection.command("HSET", key, "0", msgspec.msgpack.encode(record))
    await store.submit([(flow_id, one_stage()) for flow_id in good])
    tag = store.keys.tag_of(bad)
    claims = [claim for _ in range(3) for claim in await actor.exchange_claims(tag, 5)]
    assert sorted(claim.flow_id for claim in claims) == sorted(good)
    assert [await actor.complete(claim) for claim in claims] == ["", ""]


@pytest.mark.parametrize("digest", [None, b"\xff\xfe", b"no-such-plan"])
async def test_a_claim_without_its_plan_costs_none_of_the_others_and_is_said_to_be_damaged(
    store: Store, actor: Actor, digest: bytes | None
) -> None:
    bad, *good = in_one_partition(store, 3)
    await store.submit([(flow_id, one_stage()) for flow_id in (bad, *good)])
    key = store.keys.flow(bad)
    await store.connection.command(*(("HDEL", key, "p") if digest is None else ("HSET", key, "p", digest)))
    claims = {claim.flow_id: claim for claim in await actor.claim(3)}
    assert claims.keys() == {bad, *good}
    assert [await actor.complete(claims[flow_id]) for flow_id in good] == ["", ""]
    with pytest.raises(CorruptState, match=bad):
        await store.plan(bad, claims[bad].plan)
    assert await actor.report(failed(claims[bad])) == ""


async def test_a_claim_of_a_flow_that_can_not_be_named_costs_none_of_the_others(
    store: Store, actor: Actor, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = in_one_partition(store, 2)
    tag = store.keys.tag_of(one)
    await store.submit([(one, one_stage()), (other, one_stage())])
    nameless = f"{tag}:f:".encode() + b"\xff"
    await store.connection.command("RENAME", store.keys.flow(other), nameless)
    (lane,) = [key for key in await everything(store) if key.startswith(f"{tag}:q:".encode())]
    entries = await store.connection.command("LRANGE", lane, 0, -1)
    spoilt = [entry.replace(other.encode(), b"\xff") for entry in entries]
    await store.connection.commands(("DEL", lane), ("RPUSH", lane, *reversed(spoilt)))
    (claim,) = await actor.exchange_claims(tag, 5)
    assert claim.flow_id == one
    assert await actor.complete(claim) == ""
    assert "damaged" in caplog.text
    await store.connection.command("DEL", nameless)
