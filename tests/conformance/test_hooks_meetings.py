"""Hooks of flows that are retried in parts, and of flows under a dedup key."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.engine.duties.duties import Closer
from flowq.errors import RetryOutOfTurn
from flowq.hooks import FlowEnd
from flowq.pipeline import Dedup
from flowq.store import retries
from flowq.store.views import Views
from tests.conformance.after_the_end import closing, hooks_ended
from tests.conformance.in_the_store import its_time_comes
from tests.conformance.scene import broken, gate, order, work
from tests.engine.work import outcome, working

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each stage is a part of its own where a flow is retried."""
    monkeypatch.setattr(retries, "PART_MAX", 1)


@stage
async def hm_unbook(booked: str) -> None:
    work(f"undo {booked}")


@stage(compensate=hm_unbook)
async def hm_book(what: str) -> str:
    return work(what)


@stage
async def hm_send(booked: str) -> str:
    return work("send")


@stage
async def hm_note(end: FlowEnd) -> None:
    work(f"after {end.state}")


@stage
def hm_hold(end: FlowEnd) -> None:
    gate.stop()


@pipeline(finally_=hm_note)
def hm_trip(where: str = "flight") -> str:
    return hm_send(hm_book(where))


@pipeline(finally_=hm_hold)
def hm_held() -> str:
    return hm_send(hm_book("flight"))


EVERY = (hm_book, hm_send, hm_note, hm_hold)


async def begin_retry(producer: FlowProducer, monkeypatch: pytest.MonkeyPatch, from_stage: str | None = None) -> None:
    """A retry of the flow `trip` whose caller is gone before it has gone on with it."""

    async def gone(*_: object) -> None:
        return None

    with monkeypatch.context() as patch:
        patch.setattr(retries, "finish_retry", gone)
        assert await producer.flow("trip").retry(from_stage=from_stage)


# ── retries in parts ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_undone_runs_again_when_the_flow_is_retried_in_parts(producer: FlowProducer) -> None:
    broken.add("send")
    async with working(producer, *EVERY):
        flow = await producer.add(hm_trip(), id="trip")
        await outcome(flow)
        await hooks_ended(flow)
        broken.clear()
        order.clear()
        assert await flow.retry() == 2
        assert await flow.result(30) == "send"
        await hooks_ended(flow, "trip^end2")
    assert order == ["flight", "send", "after completed"]


async def test_a_flow_is_not_retried_in_parts_while_its_hooks_run(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hm_held(), id="held")
        await flow.result(30)
        await gate.until_arrived()
        with pytest.raises(RetryOutOfTurn, match="has not ended: flow 'held\\^end'"):
            await flow.retry(from_stage="hm_book")
        assert (await flow.inspect()).state == "completed"
        gate.opened.set()
        await hooks_ended(flow)
        assert await flow.retry(from_stage="hm_book") == 2
        assert await flow.result(30) == "send"


async def test_hooks_are_not_retried_while_their_flow_is_retried_in_parts(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.update(("send", "undo flight", "after failed"))
    async with working(producer, *EVERY):
        flow = await producer.add(hm_trip(), id="trip")
        await outcome(flow)
        await hooks_ended(flow)
    await begin_retry(producer, monkeypatch, from_stage="hm_book")
    snapshot = await flow.inspect()
    assert (snapshot.state, snapshot.hooks.id if snapshot.hooks else None) == ("running", "trip^end")
    with pytest.raises(RetryOutOfTurn, match="was retried since"):
        await producer.flow("trip^end").retry()


async def test_a_retry_that_is_cancelled_in_the_middle_undoes_nothing_twice(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.add("send")
    async with working(producer, *EVERY):
        flow = await producer.add(hm_trip(), id="trip")
        await outcome(flow)
        await hooks_ended(flow)
    await begin_retry(producer, monkeypatch)
    assert await flow.cancel()
    assert await closing(producer) == ["+trip"]
    await Closer(producer._open.store, Views(producer._open.store)).run_once()
    assert await closing(producer) == []
    assert order == ["flight", "send", "undo flight", "after failed"]
    broken.clear()
    order.clear()
    async with working(producer, *EVERY):
        assert await flow.retry() == 2
        assert await flow.result(30) == "send"
        await hooks_ended(flow, "trip^end2")
    assert order == ["flight", "send", "after completed"]


async def test_a_flow_that_had_completed_is_undone_when_its_retry_is_cancelled_in_the_middle(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hm_trip(), id="trip")
        await flow.result(30)
        await hooks_ended(flow)
    await begin_retry(producer, monkeypatch, from_stage="hm_book")
    assert await flow.cancel()
    async with working(producer, *EVERY):
        await hooks_ended(flow, "trip^end2")
    assert order == ["flight", "send", "after completed", "undo flight", "after cancelled"]


# ── dedup ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_flow_whose_place_is_taken_has_no_end_and_so_no_hooks(producer: FlowProducer) -> None:
    key = Dedup("k", debounce="1h")
    flow = await producer.add(hm_trip("flight"), dedup=key)
    assert (await producer.add(hm_trip("train"), dedup=key)).addition == "replaced"
    assert await closing(producer) == []
    assert await its_time_comes(producer, flow, "b") == 1
    async with working(producer, *EVERY):
        await flow.result(30)
        snapshot = await hooks_ended(flow)
    assert order == ["train", "send", "after completed"]
    assert snapshot.hooks is not None
    assert snapshot.hooks.id == f"{flow.id}^end"
    assert (await producer.flow(snapshot.hooks.id).inspect()).dedup is None


async def test_the_last_one_of_a_key_begins_when_the_flow_before_it_has_ended_and_waits_for_none_of_its_hooks(
    producer: FlowProducer,
) -> None:
    key = Dedup("k", keep_last=True)
    async with working(producer, *EVERY):
        first = await producer.add(hm_held(), dedup=key)
        assert await first.result(30) == "send"
        await gate.until_arrived()
        second = await producer.add(hm_held(), dedup=key)
        assert second.addition == "added"
        assert await second.result(30) == "send"
        gate.opened.set()
        await hooks_ended(first)
