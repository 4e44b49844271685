"""What becomes of runs that a worker's stop meets before they have begun, or when they are all but over."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq import FlowProducer, context, limit, stage
from flowq.engine.exchange.conversation import Conversation
from flowq.engine.run.limiter import Limiter
from flowq.store.limits import Limits
from flowq.store.views import Views
from flowq.store.wire import Header
from tests.engine.work import working

pytestmark = pytest.mark.anyio


@stage(name="draining_limited", limits=[limit("draining")])
async def limited(number: int) -> int:
    return number


async def test_a_run_that_still_waits_for_a_limit_is_handed_back_whatever_its_cancel_lost_on_its_way(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await producer.set_limit("draining", concurrency=1)
    waits = asyncio.Event()

    async def acquire_all(*_: Any) -> None:
        """As a call to the server, or a library, that tells of a cancel by an error of its own making."""
        waits.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise asyncio.CancelledError from None

    monkeypatch.setattr(Limiter, "acquire_all", acquire_all)
    async with working(producer, limited, drain_timeout="50ms"):
        flow = await producer.add(limited.flow(1))
        await waits.wait()
    back = (await flow.inspect()).stage("draining_limited")
    assert (back.state, back.attempt, back.crashes, [run.outcome for run in back.history]) == ("ready", 0, 0, ["released"])


async def test_a_stage_that_has_completed_is_not_run_again_because_its_permits_are_slow_to_return(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await producer.set_limit("draining", concurrency=1)
    returning, over = asyncio.Event(), asyncio.Event()

    async def give_back(*_: Any, **__: Any) -> None:
        returning.set()
        await over.wait()

    monkeypatch.setattr(Limits, "give_back", give_back)
    async with working(producer, limited, drain_timeout="50ms"):
        flow = await producer.add(limited.flow(1))
        await returning.wait()
    over.set()
    done = (await flow.inspect()).stage("draining_limited")
    assert (done.state, done.attempt, await flow.result(1)) == ("completed", 1, 1)


@stage(name="draining_metered")
async def metered(number: int) -> int:
    context().usage(tokens=number)
    return number


async def test_a_stop_waits_until_what_a_run_used_is_reported_with_its_outcome(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looking, draining, header, give_claims_back = asyncio.Event(), asyncio.Event(), Views.header, Conversation.give_claims_back

    async def slow_header(views: Views, flow_id: str) -> Header:
        """Whose the flow is, is known only when the drain has long looked whether anything runs."""
        looking.set()
        await draining.wait()
        for _ in range(5):
            await header(views, flow_id)
        return await header(views, flow_id)

    def drained(conversation: Conversation) -> None:
        give_claims_back(conversation)
        draining.set()

    monkeypatch.setattr(Views, "header", slow_header)
    monkeypatch.setattr(Conversation, "give_claims_back", drained)
    async with working(producer, metered):
        flow = await producer.add(metered.flow(7))
        await looking.wait()
    monkeypatch.undo()
    snapshot = await flow.inspect()
    done = snapshot.stage("draining_metered")
    assert (done.state, done.attempt, done.usage) == ("completed", 1, {"tokens": 7})
