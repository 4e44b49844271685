"""Flows that are added under one key and have to wait: until it has been quiet, or until the one before has ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, pipeline, stage
from flowq.errors import FlowNotFound, InvalidValue
from flowq.model.event import Event
from flowq.pipeline import Dedup
from flowq.store.keys import DUE, FLOW, LIVE, ONCE, PLAN
from tests.conformance.in_the_store import its_time_comes
from tests.conformance.scene import gate
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@stage
async def dw_work(text: str) -> str:
    return text


@stage
async def dw_gated(text: str) -> str:
    await gate.stop_async()
    return text


@stage
async def dw_later(text: str) -> str:
    return text


@pipeline
def dw_one(text: str, width: int = 1) -> list[str]:
    return [dw_work(f"{text}{n}") for n in range(width)]


@pipeline
def dw_held(text: str) -> str:
    return dw_gated(text)


@pipeline
def dw_chain(text: str) -> str:
    return dw_work(dw_work(text))


@pipeline
def dw_slow(text: str) -> list[str]:
    return [dw_work(text), dw_later.with_options(delay="1ms")(text)]


async def verbs_of(flow: FlowHandle[Any]) -> list[str]:
    return [event.verb async for event in flow.events() if isinstance(event, Event)]


async def test_until_it_is_quiet_each_further_add_takes_the_place_of_the_one_before(producer: FlowProducer) -> None:
    key = Dedup("user:7", debounce="1h")
    flows = [await producer.add(dw_one(text), dedup=key) for text in ("a", "b", "c")]
    assert [flow.addition for flow in flows] == ["added", "replaced", "replaced"]
    assert [flow.is_new for flow in flows] == [True, False, False]
    assert len({flow.id for flow in flows}) == 1
    snapshot = await flows[0].inspect()
    assert (snapshot.state, snapshot.inputs) == ("scheduled", {"text": "c", "width": 1})
    assert len(await producer.list()) == 1
    assert await its_time_comes(producer, flows[0], "b") == 1
    async with working(producer, dw_work):
        assert await flows[0].result(30) == ["c0"]
    assert (await verbs_of(flows[0]))[:4] == ["added", "replaced", "replaced", "promoted"]


async def test_a_further_add_extends_the_wait_up_to_its_longest(producer: FlowProducer) -> None:
    first = await producer.add(dw_one("a"), dedup=Dedup("k", debounce="1h", max_wait="90m"))
    was = await first.inspect()
    assert was.begins_at == was.created_at + 3_600_000
    longer = await producer.add(dw_one("b"), dedup=Dedup("k", debounce="80m", max_wait="90m"))
    assert (was.begins_at or 0) < ((await longer.inspect()).begins_at or 0)
    bounded = await (await producer.add(dw_one("c"), dedup=Dedup("k", debounce="90m", max_wait="90m"))).inspect()
    assert bounded.dedup is not None
    assert (bounded.dedup.since, bounded.begins_at) == (was.created_at, was.created_at + 5_400_000)


async def test_an_add_beyond_the_longest_wait_begins_at_once(producer: FlowProducer) -> None:
    first = await producer.add(dw_one("a"), dedup=Dedup("k", debounce="1h", max_wait="1h"))
    second = await producer.add(dw_one("b"), dedup=Dedup("k", debounce="1ms", max_wait="1ms"))
    assert (second.id, second.addition) == (first.id, "replaced")
    async with working(producer, dw_work):
        assert await first.result(30) == ["b0"]


async def test_one_that_is_ready_but_not_begun_is_replaced_and_runs_once(producer: FlowProducer) -> None:
    key = Dedup("k", debounce="1ms", max_wait="1ms")
    first = await producer.add(dw_one("a", 3), dedup=key)
    assert await its_time_comes(producer, first, "b") == 1
    async with working(producer, dw_gated):  # promotes, but knows no such stage
        await until(first, "promoted")
    second = await producer.add(dw_one("b", 2), dedup=key)
    assert (second.id, second.addition) == (first.id, "replaced")
    async with working(producer, dw_work):
        assert await second.result(30) == ["b0", "b1"]
    assert (await verbs_of(first)).count("claimed") == 2


async def until(flow: FlowHandle[Any], verb: str) -> None:
    async with asyncio.timeout(30):
        async for event in flow.events():
            if isinstance(event, Event) and event.verb == verb:
                return


async def test_once_it_has_begun_the_next_waits_by_itself(producer: FlowProducer) -> None:
    key = Dedup("k", debounce="1h")
    first = await producer.add(dw_held("a"), dedup=key)
    assert await its_time_comes(producer, first, "b") == 1
    async with working(producer, dw_gated):
        await gate.until_arrived()
        second = await producer.add(dw_held("b"), dedup=key)
        assert (second.addition, second.id != first.id) == ("added", True)
        gate.opened.set()
        assert await first.result(30) == "a"
        assert (await second.inspect()).state == "scheduled"
        third = await producer.add(dw_held("c"), dedup=key)
        assert (third.id, third.addition) == (second.id, "replaced")


async def test_nothing_is_left_of_the_one_that_was_replaced(producer: FlowProducer) -> None:
    key = Dedup("k", debounce="1h")
    first = await producer.add(dw_one("a", 700), dedup=key, tags=["old"], tenant="acme", deadline="2h")
    second = await producer.add(dw_one("b"), dedup=key, tags=["new"])
    store = producer._open.store
    tag = store.keys.tag_of(first.id)
    fields = {name.decode() for name in await store.connection.command("HKEYS", tag + FLOW + first.id)}
    assert fields == {"m", "p", "f", "o", "i0", "l", "b", "b0", "D", "out"}
    assert await store.connection.command("ZRANGE", tag + DUE, 0, -1) == [f"b0:{first.id}".encode()]
    assert await producer.list(tag="old") == []
    assert await producer.list(tenant="acme") == []
    assert [flow.id for flow in await producer.list(tag="new")] == [second.id]
    assert await store.connection.command("ZCARD", tag + LIVE) == 1
    digest = (await store.connection.command("HGET", tag + FLOW + first.id, "p")).decode()
    assert await store.connection.command("HGET", tag + PLAN + digest, "flows") == b"1"
    old = dw_one("a", 700).plan.digest
    assert await store.connection.command("EXISTS", tag + PLAN + old) == 0


async def test_one_that_is_replaced_waits_for_its_own_tenants_turn(producer: FlowProducer) -> None:
    key = Dedup("user:7", debounce="1ms")
    first = await producer.add(dw_one("a"), dedup=key, tenant="acme")
    second = await producer.add(dw_one("b"), dedup=key, tenant="globex")
    assert (await second.inspect()).tenant == "globex"
    assert [summary.id for summary in await producer.list(tenant="globex")] == [first.id]
    assert list(await producer.list(tenant="acme")) == []
    async with working(producer, dw_work):
        assert await second.result(30) == ["b0"]


async def test_a_paused_one_that_is_replaced_stays_paused(producer: FlowProducer) -> None:
    key = Dedup("k", debounce="1h")
    first = await producer.add(dw_one("a"), dedup=key)
    await first.pause(by="jo")
    second = await producer.add(dw_one("b"), dedup=key)
    snapshot = await second.inspect()
    assert (snapshot.state, snapshot.pause is not None and snapshot.pause.by, snapshot.inputs["text"]) == ("paused", "jo", "b")
    await second.resume()
    assert (await second.inspect()).state == "scheduled"


async def test_of_many_in_one_call_the_last_is_written(producer: FlowProducer) -> None:
    flows = await producer.add_bulk(dw_one(str(n)).with_options(dedup=Dedup(f"k{n % 2}", debounce="1h")) for n in range(10))
    assert [flow.addition for flow in flows] == ["added"] * 2 + ["replaced"] * 8
    assert [(await flow.inspect()).inputs["text"] for flow in flows[:2]] == ["8", "9"]
    kept = await producer.add_bulk(dw_one(str(n)).with_options(dedup=Dedup("last", keep_last=True)) for n in range(5))
    assert [flow.addition for flow in kept] == ["added", "kept", "replaced", "replaced", "replaced"]
    async with working(producer, dw_work):
        assert [await flow.result(30) for flow in kept[:2]] == [["00"], ["40"]]


async def test_the_last_that_was_added_waits_for_the_end_of_the_one_before(producer: FlowProducer) -> None:
    key = Dedup("k", keep_last=True)
    first = await producer.add(dw_held("a"), dedup=key)
    async with working(producer, dw_gated):
        await gate.until_arrived()
        kept = await producer.add(dw_held("b"), dedup=key)
        newest = await producer.add(dw_held("c"), dedup=key)
        assert [flow.addition for flow in (first, kept, newest)] == ["added", "kept", "replaced"]
        assert newest.id == kept.id != first.id
        assert (await kept.inspect()).state == "scheduled"
        gate.opened.set()
        assert await first.result(30) == "a"
        assert await newest.result(30) == "c"
        after = await producer.add(dw_held("d"), dedup=key)
        assert (after.addition, await after.result(30)) == ("added", "d")


@pytest.mark.parametrize("how", ["cancel", "deadline"])
async def test_the_kept_one_begins_however_the_one_before_ends(producer: FlowProducer, how: str) -> None:
    key = Dedup("k", keep_last=True)
    first = await producer.add(dw_held("a"), dedup=key, deadline="1ms" if how == "deadline" else None)
    kept = await producer.add(dw_held("b"), dedup=key)
    gate.opened.set()
    if how == "cancel":
        await first.cancel()
    async with working(producer, dw_gated):
        assert await kept.result(30) == "b"
    assert [(await flow.inspect()).state for flow in (first, kept)] == ["cancelled" if how == "cancel" else "failed", "completed"]


async def test_a_kept_one_with_stages_that_begin_later_begins_with_all_of_them(producer: FlowProducer) -> None:
    key = Dedup("k", keep_last=True)
    first = await producer.add(dw_slow("a"), dedup=key)
    kept = await producer.add(dw_slow("b"), dedup=key)
    async with working(producer, dw_work, dw_later):
        assert await first.result(30) == ["a", "a"]
        assert await kept.result(30) == ["b", "b"]
    snapshot = await kept.inspect()
    ended_at = (await first.inspect()).ended_at or 0
    assert all((stage.ready_at or 0) >= ended_at for stage in snapshot.graph), "it waits in the queue only since it may run"


async def test_a_kept_one_that_is_cancelled_makes_room_for_the_next(producer: FlowProducer) -> None:
    key = Dedup("k", keep_last=True)
    first = await producer.add(dw_one("a"), dedup=key)
    kept = await producer.add(dw_one("b"), dedup=key)
    await kept.cancel()
    again = await producer.add(dw_one("c"), dedup=key)
    assert (again.addition, again.id != kept.id) == ("kept", True)
    async with working(producer, dw_work):
        assert await again.result(30) == ["c0"]
    assert (await first.inspect()).state == "completed"


async def test_a_kept_one_that_is_paused_goes_on_waiting_when_it_is_resumed(producer: FlowProducer) -> None:
    key = Dedup("k", keep_last=True)
    first = await producer.add(dw_held("a"), dedup=key)
    kept = await producer.add(dw_held("b"), dedup=key)
    await kept.pause()
    await kept.resume()
    assert (await kept.inspect()).state == "scheduled"
    await kept.pause()
    gate.opened.set()
    async with working(producer, dw_gated):
        assert await first.result(30) == "a"
        await kept.resume()
        assert await kept.result(30) == "b"


async def test_what_waited_for_a_flow_that_vanished_begins_with_the_next_add(producer: FlowProducer) -> None:
    key = Dedup("k", keep_last=True)
    first = await producer.add(dw_one("a"), dedup=key)
    kept = await producer.add(dw_one("b"), dedup=key)
    store = producer._open.store
    await store.connection.command("UNLINK", store.keys.flow(first.id))
    third = await producer.add(dw_one("c"), dedup=key)
    assert third.addition == "kept"
    async with working(producer, dw_work):
        assert [await flow.result(30) for flow in (kept, third)] == [["b0"], ["c0"]]


async def test_a_flow_tells_its_key_and_for_what_it_waits(producer: FlowProducer) -> None:
    plain = await (await producer.add(dw_one("a"))).inspect()
    once = await (await producer.add(dw_one("a"), dedup=Dedup("k"))).inspect()
    assert (plain.dedup, once.dedup and (once.dedup.key, once.dedup.mode)) == (None, ("k", "once"))
    quiet = await (await producer.add(dw_chain("a"), dedup=Dedup("q", debounce="1h"))).inspect()
    work, _ = quiet.graph
    assert work.reason is not None
    assert work.reason.code == "debounced"
    assert work.reason.sentence.startswith("debounced until ")
    first = await producer.add(dw_one("a"), dedup=Dedup("l", keep_last=True))
    kept = await (await producer.add(dw_one("b"), dedup=Dedup("l", keep_last=True))).inspect()
    (work,) = kept.graph
    assert work.reason is not None
    assert (work.reason.code, work.reason.sentence, work.reason.on) == (
        "other_flow",
        f"waits until flow {first.id} has ended",
        (first.id,),
    )


async def test_a_submission_whose_reply_was_lost_takes_no_place_twice(producer: FlowProducer) -> None:
    store = producer._open.store
    tag_of = store.keys.tag_of
    ids = [f"id{n}" for n in range(400) if tag_of(f"id{n}") == tag_of("dw_one:k")]
    for dedup in (Dedup("k", debounce="1h"), Dedup("k", keep_last=True)):
        specs = [dw_one(text).with_options(dedup=dedup) for text in "abc"]
        words = [(await store.submit([(ids.pop(), spec)]))[0] for spec in specs[:1]]
        again = ids.pop()
        for _ in range(2):
            words.append((await store.submit([(again, specs[1])]))[0])
        assert len({word.flow_id for word in words[1:]}) == 1
        seq = (await producer.flow(words[-1].flow_id).inspect()).seq
        await store.submit([(again, specs[1])])
        assert (await producer.flow(words[-1].flow_id).inspect()).seq == seq
        for word in words:
            await producer.flow(word.flow_id).cancel()


async def test_keys_go_with_the_last_flow_that_is_removed(producer: FlowProducer) -> None:
    for dedup in (Dedup("k", debounce="1h"), Dedup("l", keep_last=True)):
        flow = await producer.add(dw_one("a"), dedup=dedup)
        await flow.cancel()
        store = producer._open.store
        name = store.keys.tag_of(flow.id) + ONCE + dedup.name("dw_one")
        assert await store.connection.command("EXISTS", name) == 1
        await producer.prune(state="cancelled")
        assert await store.connection.command("EXISTS", name) == 0
        with pytest.raises(FlowNotFound):
            await flow.inspect()


def test_a_dedup_whose_parts_do_not_go_together_is_refused() -> None:
    for wrong in (
        {"window": "1m", "debounce": "1m"}, {"debounce": "1m", "keep_last": True}, {"max_wait": "1m"}, {"debounce": 0},
        {"debounce": "1m", "max_wait": "1s"}, {"debounce": "soon"}, {"keep_last": "yes"},
    ):  # fmt: skip
        options: dict[str, Any] = dict(wrong)
        with pytest.raises(InvalidValue, match="dedup"):
            Dedup("k", **options)


async def test_a_second_way_to_say_when_it_begins_is_refused(producer: FlowProducer) -> None:
    for dedup in (Dedup("k", debounce="1m"), Dedup("k", keep_last=True)):
        with pytest.raises(InvalidValue, match="no delay= or start_at="):
            await producer.add(dw_one("a"), dedup=dedup, delay="1m")
    assert await producer.list() == []
