"""What runs after the end of a flow: compensations and `finally_`."""

from __future__ import annotations

from typing import Any

import pytest

from flowq import FlowHandle, FlowProducer, Unrecoverable, pipeline, stage
from flowq.hooks import FlowEnd
from flowq.model.snapshot import FlowSnapshot
from tests.engine.work import outcome, until, working

pytestmark = pytest.mark.anyio

# What ran, in order.
ran: list[Any] = []
failing: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    """Nothing has run, and nothing fails."""
    ran.clear()
    failing.clear()


def work(name: str) -> str:
    """Notes that it ran; fails if the test wants that."""
    ran.append(name)
    if name in failing:
        raise Unrecoverable(f"{name} is broken")
    return name


@stage
async def hk_unbook(booked: str) -> None:
    work(f"undo {booked}")


@stage
async def hk_unpay(paid: dict[str, int]) -> None:
    work(f"undo pay {paid['amount']}")


@stage
async def hk_cleanup(end: FlowEnd) -> None:
    work("cleanup")
    ran.append(end)


@stage(compensate=hk_unbook)
async def hk_book(what: str) -> str:
    return work(what)


@stage(compensate=hk_unpay)
async def hk_pay(booked: list[str], amount: int) -> dict[str, int]:
    work("pay")
    return {"amount": amount}


@stage
async def hk_send(paid: dict[str, int]) -> str:
    return work("send")


@pipeline(finally_=hk_cleanup)
def hk_trip(amount: int) -> str:
    flight = hk_book("flight")
    hotel = hk_book.with_options(after=[flight])("hotel")
    return hk_send(hk_pay([flight, hotel], amount))


EVERY = (hk_book, hk_pay, hk_send, hk_cleanup)


async def hooks_ended(flow: FlowHandle[Any]) -> FlowSnapshot:
    """The flow once its hooks have ended."""
    return await until(flow, lambda snapshot: snapshot.hooks is not None and snapshot.hooks.state in ("completed", "failed"))


async def test_what_completed_is_undone_in_reverse_order_when_the_flow_fails(producer: FlowProducer) -> None:
    failing.add("send")
    async with working(producer, *EVERY):
        flow = await producer.add(hk_trip(70), id="trip")
        await outcome(flow)
        snapshot = await hooks_ended(flow)
    end = FlowEnd(flow_id="trip", pipeline="hk_trip", state="failed", cause="hk_send: Unrecoverable: send is broken")
    assert ran == ["flight", "hotel", "pay", "send", "undo pay 70", "undo hotel", "undo flight", "cleanup", end]
    assert snapshot.state == "failed"
