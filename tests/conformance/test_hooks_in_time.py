"""Hooks of flows that are retried, removed and looked for; and their own attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from flowq import Artifact, Backoff, FlowProducer, context, pipeline, stage
from flowq.engine.duties.removal import Remover
from flowq.errors import RetryOutOfTurn
from flowq.hooks import FlowEnd
from flowq.settings import KeepSettings
from flowq.store.outlived import Doomed
from flowq.store.retentions import Retention
from flowq.store.views import Views
from tests.conformance.after_the_end import closing, hooks_ended, pruner_of, states
from tests.conformance.scene import broken, gate, order, work
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio

AT_ONCE = Retention(-1_000, -1_000, -1_000)


@stage
async def ht_unbook(booked: str) -> None:
    work(f"undo {booked}")


@stage(compensate=ht_unbook)
async def ht_book(what: str) -> str:
    return work(what)


@stage
async def ht_send(booked: list[str]) -> str:
    return work("send")


@stage
async def ht_note(end: FlowEnd) -> None:
    work(f"after {end.state}")


@pipeline(finally_=ht_note)
def ht_trip() -> str:
    flight = ht_book("flight")
    return ht_send([flight, ht_book.with_options(after=[flight])("hotel")])


@stage
async def ht_undo_item(made: int) -> None:
    work(f"undo {made}")


@stage(compensate=ht_undo_item)
async def ht_item(number: int) -> int:
    work(str(number))
    return number


@stage
async def ht_sum(made: list[int]) -> int:
    work("sum")
    return sum(made)


@pipeline
def ht_items() -> int:
    return ht_sum(ht_item.with_options(at_once=1).map([1, 2]))


@stage
def ht_hold(end: FlowEnd) -> None:
    gate.stop()


@pipeline(finally_=ht_hold)
def ht_held() -> str:
    return ht_book("flight")


@stage(attempts=3, backoff=Backoff.none())
async def ht_flaky(end: FlowEnd) -> int:
    order.append(f"attempt {context().attempt}")
    if context().attempt < 2:
        raise RuntimeError("not yet")
    return context().attempt


@pipeline(finally_=ht_flaky)
def ht_flakily() -> str:
    return ht_book("flight")


@stage
async def ht_report(end: FlowEnd) -> Artifact:
    async with context().new_artifact("report.txt") as sink:
        await sink.write(end.flow_id.encode())
    return sink.artifact


@pipeline(finally_=ht_report)
def ht_reported() -> str:
    return ht_book("flight")


EVERY = (ht_book, ht_send, ht_note, ht_item, ht_sum, ht_hold, ht_flaky, ht_report)


@pytest.fixture
async def held(producer: FlowProducer) -> AsyncIterator[Any]:
    """A flow that has completed, and whose hook runs."""
    async with working(producer, *EVERY):
        flow = await producer.add(ht_held(), id="held")
        await flow.result(30)
        await gate.until_arrived()
        yield flow
        gate.opened.set()


# ── retries ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_undone_runs_again_when_the_flow_is_retried(producer: FlowProducer) -> None:
    broken.add("send")
    async with working(producer, *EVERY):
        flow = await producer.add(ht_trip(), id="trip")
        await outcome(flow)
        await hooks_ended(flow)
        broken.clear()
        order.clear()
        assert await flow.retry() == 3
        assert await flow.result(30) == "send"
        snapshot = await hooks_ended(flow, "trip^end2")
    assert order == ["flight", "hotel", "send", "after completed"]
    assert states(snapshot) == {"^": "completed"}
    assert (await producer.flow("trip^end").inspect()).stages == 3


async def test_what_could_not_be_undone_is_not_run_again_but_undone_at_the_next_failure(producer: FlowProducer) -> None:
    broken.update(("send", "undo flight"))
    async with working(producer, *EVERY):
        flow = await producer.add(ht_trip(), id="trip")
        await outcome(flow)
        await hooks_ended(flow)
        broken.discard("undo flight")
        order.clear()
        assert await flow.retry() == 2
        await outcome(flow)
        await hooks_ended(flow, "trip^end2")
        assert order == ["hotel", "send", "undo hotel", "undo flight", "after failed"]
        with pytest.raises(RetryOutOfTurn, match="was retried since") as refused:
            await producer.flow("trip^end").retry()
        assert (refused.value.flow_id, refused.value.other) == ("trip^end", "trip")


async def test_items_that_were_undone_run_again(producer: FlowProducer) -> None:
    broken.add("sum")
    async with working(producer, *EVERY):
        flow = await producer.add(ht_items(), id="items")
        await outcome(flow)
        await hooks_ended(flow)
        broken.clear()
        order.clear()
        assert await flow.retry() == 3
        assert await flow.result(30) == 3
    assert order == ["1", "2", "sum"]


async def test_a_flow_is_not_retried_while_its_hooks_run(producer: FlowProducer, held: Any) -> None:
    with pytest.raises(RetryOutOfTurn, match="has not ended: flow 'held\\^end'"):
        await held.retry(from_stage="ht_book")
    gate.opened.set()
    await hooks_ended(held)
    assert await held.retry(from_stage="ht_book") == 1
    assert await held.result(30) == "flight"
    assert (await hooks_ended(held, "held^end2")).run == 2


async def test_a_flow_is_not_retried_before_its_hooks_were_added(producer: FlowProducer) -> None:
    flow = await producer.add(ht_trip(), id="trip")
    await producer._open.store.cancel("trip", "", 3)
    with pytest.raises(RetryOutOfTurn, match="has not ended"):
        await flow.retry()


async def test_many_flows_are_retried_without_their_hooks(producer: FlowProducer) -> None:
    broken.update(("send", "undo flight"))
    async with working(producer, *EVERY):
        flow = await producer.add(ht_trip(), id="trip")
        await outcome(flow)
        await hooks_ended(flow)
        report = await producer.retry(pipeline="ht_trip")
        assert (report.matched, report.done, report.errors) == (1, 1, [])
        await outcome(flow)
        await hooks_ended(flow, "trip^end2")


async def test_a_hook_has_attempts_of_its_own(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(ht_flakily(), id="flaky")
        await flow.result(30)
        snapshot = await hooks_ended(flow)
    assert snapshot.hooks is not None
    hook = snapshot.hooks.stages[0]
    assert (hook.name, hook.state, hook.attempt, hook.attempts) == ("ht_flaky", "completed", 2, 3)
    assert order[1:] == ["attempt 1", "attempt 2"]


# ── finding and removing ─────────────────────────────────────────────────────────────────────────────────────────────


async def test_hooks_are_no_flows_that_lists_show(producer: FlowProducer, held: Any) -> None:
    assert [flow.id for flow in await producer.list()] == ["held"]
    assert [flow.id for flow in await producer.list(pipeline="ht_held")] == ["held"]
    assert await producer.list(state="running") == []
    assert await producer.find("latest") == "held"
    assert await producer.find("hel") == "held"
    assert await producer.find("held^") == "held^end"
    report = await producer.cancel(pipeline="ht_held")
    assert report.matched == 0


async def test_a_release_that_lacks_a_hook_in_flight_is_told(producer: FlowProducer, held: Any) -> None:
    waiting = await producer.add(ht_trip(), id="trip")
    report = await producer.check(stages=[ht_book, ht_send])
    assert {one.stage: one.examples for one in report.strandings} == {
        "ht_hold": ["held^end"],
        "ht_note": ["trip"],
    }
    await waiting.cancel()


async def test_a_flow_is_removed_with_its_hooks_and_not_before_they_have_ended(producer: FlowProducer, held: Any) -> None:
    store = producer._open.store
    views = Views(store)
    store.retention = AT_ONCE
    assert (await producer.prune(pipeline="ht_held")).done == 0
    assert await views.exists("held")
    gate.opened.set()
    await hooks_ended(held)
    left = await store.connection.command("PTTL", store.keys.flow("held^end"))
    assert left > 14 * 86_400_000, "as long as the longest that its flow may stay"
    assert (await producer.prune(pipeline="ht_held")).done == 1
    assert not await views.exists("held")
    assert not await views.exists("held^end")


async def test_a_flow_is_not_removed_before_its_hooks_were_added(producer: FlowProducer) -> None:
    store = producer._open.store
    await producer.add(ht_trip(), id="trip")
    await store.cancel("trip", "", 3)
    assert (await producer.prune(pipeline="ht_trip")).done == 0
    assert await closing(producer) == ["^1:trip"]


async def test_hooks_that_failed_are_removed_with_their_flow_only(producer: FlowProducer) -> None:
    broken.update(("send", "after failed"))
    store = producer._open.store
    views = Views(store)
    async with working(producer, *EVERY):
        flow = await producer.add(ht_trip(), id="trip")
        await outcome(flow)
        await hooks_ended(flow)
    (dead,) = [group for group in await producer.dead() if group.stage == "ht_note"]
    assert (await producer.prune(dead=dead.key)).done == 1
    assert [group.stage for group in await producer.dead()] == ["ht_send"], "nobody is to look after them any more"
    assert await views.exists("trip^end")
    store.retention = AT_ONCE
    assert await pruner_of(producer).run_once() == 1
    assert not await views.exists("trip^end")


async def test_hooks_whose_flow_expired_are_removed_by_themselves(producer: FlowProducer) -> None:
    broken.add("after failed")
    store = producer._open.store
    async with working(producer, *EVERY):
        broken.add("send")
        flow = await producer.add(ht_trip(), id="trip")
        await outcome(flow)
        await hooks_ended(flow)
    await store.connection.command("DEL", store.keys.flow("trip"))
    store.retention = AT_ONCE
    await pruner_of(producer).run_once()
    assert not await Views(store).exists("trip^end")


async def test_artifacts_of_hooks_go_with_those_of_their_flow(producer: FlowProducer) -> None:
    store = producer._open.store
    async with working(producer, *EVERY):
        flow = await producer.add(ht_reported(), id="reported")
        await flow.result(30)
        snapshot = await hooks_ended(flow)
    assert snapshot.hooks is not None
    assert [artifact.name for artifact in snapshot.hooks.stages[0].artifacts] == ["report.txt"]
    storage = producer._open.storage
    assert storage is not None
    assert list(storage.objects("reported"))
    views = Views(store)
    ((digest, _),) = [known for known in await views.heads(["reported"]) if known is not None]
    doomed = Doomed(store.keys.tag_of("reported"), await views.now() + 1, [f"{digest}reported".encode()])
    assert await Remover(store, lambda: storage, KeepSettings(artifacts=False)).remove(doomed) == 1
    assert not list(storage.objects("reported"))
