"""What runs after the end of a flow: compensations and `finally_`."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, pipeline, stage
from flowq.engine.duties.closing import finish_closing
from flowq.engine.duties.duties import Closer
from flowq.errors import FlowFailed, InvalidValue
from flowq.hooks import FlowEnd
from flowq.model.hooks import due_member
from flowq.store.keys import CLOSING
from flowq.store.views import Views
from tests.conformance.after_the_end import closing, hooks_ended, states
from tests.conformance.scene import broken, gate, order, work
from tests.engine.work import outcome, told, working

pytestmark = pytest.mark.anyio


@stage
async def hk_unbook(booked: str) -> None:
    work(f"undo {booked}")


@stage
async def hk_unpay(paid: dict[str, int]) -> None:
    work(f"undo pay {paid['amount']}")


@stage
async def hk_cleanup(end: FlowEnd) -> None:
    work("cleanup")
    order.append(end)


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


@stage
async def hk_undo_item(made: str) -> None:
    work(f"undo {made}")


@stage(compensate=hk_undo_item)
async def hk_make(number: int) -> str:
    return work(f"item {number}")


@stage
async def hk_numbers(count: int) -> list[int]:
    return list(range(count))


@pipeline
def hk_items(count: int) -> list[str]:
    return hk_make.with_options(at_once=1).map(hk_numbers(count))


@stage
async def hk_undo_text(text: str) -> None:
    order.append(len(text))


@stage(compensate=hk_undo_text)
async def hk_text(length: int) -> str:
    return "x" * length


@stage
def hk_wait(after: str) -> None:
    gate.stop()


@pipeline(finally_=hk_cleanup)
def hk_waits(what: str) -> None:
    hk_wait(hk_book(what))


@pipeline(finally_=hk_cleanup, fail_fast=True)
def hk_fast(what: str) -> None:
    hk_wait(hk_book(what))
    hk_send.with_options(after=[hk_book("second")])({})


@pipeline
def hk_large(length: int) -> str:
    text = hk_text(length)
    return hk_send.with_options(after=[text])({})


EVERY = (hk_book, hk_pay, hk_send, hk_cleanup, hk_make, hk_numbers, hk_text, hk_wait)


# ── what runs, and when ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_completed_is_undone_in_reverse_order_when_the_flow_fails(producer: FlowProducer) -> None:
    broken.add("send")
    async with working(producer, *EVERY):
        flow = await producer.add(hk_trip(70), id="trip", tenant="acme", priority=3)
        error = await outcome(flow)
        snapshot = await hooks_ended(flow)
    end = FlowEnd(flow_id="trip", pipeline="hk_trip", state="failed", cause="hk_send: Unrecoverable: send is broken")
    assert order == ["flight", "hotel", "pay", "send", "undo pay 70", "undo hotel", "undo flight", "cleanup", end]
    assert isinstance(error, FlowFailed)
    assert states(snapshot) == {"hk_pay": "completed", "hk_book-2": "completed", "hk_book": "completed", "^": "completed"}
    assert (snapshot.state, snapshot.run, snapshot.root_cause) == ("failed", 1, "hk_send")
    assert await closing(producer) == []
    hooks = await producer.flow("trip^end").inspect()
    assert (hooks.state, hooks.parent, hooks.tenant, hooks.priority) == ("completed", "trip", "acme", 3)


async def test_of_a_flow_that_completed_nothing_is_undone_and_the_last_stage_runs(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hk_trip(70), id="trip")
        assert await flow.result(30) == "send"
        snapshot = await hooks_ended(flow)
    assert order[4:] == ["cleanup", FlowEnd(flow_id="trip", pipeline="hk_trip", state="completed")]
    assert states(snapshot) == {"^": "completed"}


async def test_a_flow_of_stages_that_can_be_undone_leaves_nothing_behind_when_it_completes(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hk_items(2), id="items")
        await flow.result(30)
    assert (await flow.inspect()).hooks is None
    assert await closing(producer) == []


async def test_of_a_cancelled_flow_what_had_completed_is_undone_and_what_ran_is_not(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hk_waits("flight"), id="waits")
        await gate.until_arrived()
        assert await flow.cancel("the customer left")
        gate.opened.set()
        await hooks_ended(flow)
    end = FlowEnd(flow_id="waits", pipeline="hk_waits", state="cancelled", cause="the customer left")
    assert order == ["flight", "undo flight", "cleanup", end]


async def test_a_flow_that_is_cancelled_before_it_began_has_an_end_too(producer: FlowProducer) -> None:
    flow = await producer.add(hk_waits("flight"), id="waits")
    await flow.cancel()
    snapshot = await flow.inspect()
    assert states(snapshot) == {"^": "ready"}, "who cancels adds them, though no worker lives"
    assert snapshot.hooks is not None
    assert snapshot.hooks.stages[0].reason is not None
    assert snapshot.hooks.stages[0].reason.code == "no_worker"
    async with working(producer, *EVERY):
        await hooks_ended(flow)
    assert order == ["cleanup", FlowEnd(flow_id="waits", pipeline="hk_waits", state="cancelled")]


async def test_a_flow_that_fails_at_once_has_an_end_too(producer: FlowProducer) -> None:
    broken.add("send")
    async with working(producer, *EVERY):
        flow = await producer.add(hk_fast("flight"), id="fast")
        gate.opened.set()
        await hooks_ended(flow)
    assert {"undo flight", "undo second"} <= {one for one in order if isinstance(one, str)}
    assert order[-1].state == "failed"


async def test_a_flow_whose_deadline_passes_has_an_end_too(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hk_waits("flight"), id="waits", deadline="500ms")
        await gate.until_arrived()
        await outcome(flow)
        gate.opened.set()
        await hooks_ended(flow)
    end = FlowEnd(flow_id="waits", pipeline="hk_waits", state="failed", cause="its deadline passed")
    assert order == ["flight", "undo flight", "cleanup", end]


async def test_of_a_map_each_item_that_completed_is_undone(producer: FlowProducer) -> None:
    broken.add("item 2")
    async with working(producer, *EVERY):
        flow = await producer.add(hk_items(4), id="items")
        await outcome(flow)
        snapshot = await hooks_ended(flow)
    assert order == ["item 0", "item 1", "item 2", "item 3", "undo item 3", "undo item 1", "undo item 0"]
    assert list(states(snapshot)) == ["hk_make[3]", "hk_make[1]", "hk_make[0]"]


async def test_a_flow_of_one_stage_is_undone_too(producer: FlowProducer) -> None:
    flow = await producer.add(hk_book.flow("flight"), id="one")
    await flow.cancel()
    assert (await flow.inspect()).hooks is None, "nothing had completed"


async def test_a_result_in_artifact_storage_is_handed_over_whole(producer: FlowProducer) -> None:
    broken.add("send")
    async with working(producer, *EVERY):
        flow = await producer.add(hk_large(5_000), id="large")
        await outcome(flow)
        await hooks_ended(flow)
    assert order == ["send", 5_000]


async def test_hooks_have_events_of_their_own(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hk_trip(70), id="trip")
        await flow.result(30)
        await hooks_ended(flow)
    assert await told(producer.flow("trip^end")) == ["added", "claimed hk_cleanup", "completed hk_cleanup", "completed"]


# ── crashes and repetition ───────────────────────────────────────────────────────────────────────────────────────────


async def test_a_duty_adds_hooks_if_whoever_ended_the_flow_went_away(producer: FlowProducer) -> None:
    store = producer._open.store
    flow = await producer.add(hk_waits("flight"), id="waits")
    await store.cancel("waits", "", 2)
    before = (await flow.inspect()).hooks
    assert before is not None
    assert (before.id, before.state, before.stages) == ("waits^end", None, ())
    await Closer(store, Views(store)).run_once()
    after = (await flow.inspect()).hooks
    assert after is not None
    assert after.state == "ready"
    assert await closing(producer) == []


async def test_a_damaged_member_of_the_index_holds_up_no_other(producer: FlowProducer) -> None:
    store = producer._open.store
    await producer.add(hk_waits("flight"), id="waits")
    await store.cancel("waits", "", 2)
    tag = store.keys.tag_of("waits")
    await store.connection.command("ZADD", tag + CLOSING, -1, "^rubbish:waits")
    await Closer(store, Views(store)).run_once()
    assert await closing(producer) == ["^rubbish:waits"]
    assert await Views(store).exists("waits^end")


async def test_hooks_are_added_once_however_many_try(producer: FlowProducer) -> None:
    store = producer._open.store
    flow = await producer.add(hk_waits("flight"), id="waits")
    await flow.cancel()
    hooks = producer.flow("waits^end")
    await hooks.cancel()
    seq = (await hooks.inspect()).seq
    for _ in range(2):
        await finish_closing(store, due_member("waits", 1))
    assert (await hooks.inspect()).seq == seq
    assert await store.prune(store.keys.tag_of("waits"), 2**50, [b"?" * 16 + b"waits"]) == 1
    await finish_closing(store, due_member("waits", 1))
    assert not await Views(store).exists("waits^end"), "of a flow that is gone nothing is added"


async def test_hooks_that_an_earlier_flow_of_this_id_left_make_room(producer: FlowProducer) -> None:
    store = producer._open.store
    flow = await producer.add(hk_waits("flight"), id="waits")
    await flow.cancel()
    await producer.flow("waits^end").cancel()
    await store.connection.command("DEL", store.keys.flow("waits"))  # it expired: nobody pruned
    again = await producer.add(hk_waits("flight"), id="waits")
    created_at = (await again.inspect()).created_at
    await again.cancel()
    hooks = await producer.flow("waits^end").inspect()
    assert (hooks.state, hooks.inputs["added"]) == ("ready", created_at)


# ── hooks that fail ──────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_hook_that_fails_keeps_no_other_from_running_and_changes_nothing_of_its_flow(producer: FlowProducer) -> None:
    broken.update(("send", "undo hotel"))
    async with working(producer, *EVERY):
        flow = await producer.add(hk_trip(70), id="trip")
        await outcome(flow)
        snapshot = await hooks_ended(flow)
        assert order[4:8] == ["undo pay 70", "undo hotel", "undo flight", "cleanup"]
        assert states(snapshot) == {"hk_pay": "completed", "hk_book-2": "failed", "hk_book": "completed", "^": "completed"}
        assert (snapshot.state, snapshot.root_cause, snapshot.failed) == ("failed", "hk_send", 1)
        dead = {group.stage: group for group in await producer.dead()}
        assert dead["hk_unbook"].flows == ["trip^end"]
        assert set(dead) == {"hk_send", "hk_unbook"}
        order.clear()
        broken.clear()
        report = await producer.retry(dead=dead["hk_unbook"].key)
        assert (report.done, report.stages, report.errors) == (1, 1, [])
        snapshot = await hooks_ended(flow)
    assert order == ["undo hotel"], "only what failed runs again"
    assert set(states(snapshot).values()) == {"completed"}
    assert [group.stage for group in await producer.dead()] == ["hk_send"]


async def test_hooks_can_be_cancelled_and_their_flow_which_has_ended_can_not(producer: FlowProducer) -> None:
    flow = await producer.add(hk_waits("flight"), id="waits")
    await flow.cancel("first")
    assert await flow.cancel("second") is True
    assert states(await flow.inspect()) == {"^": "ready"}
    assert await producer.flow("waits^end").cancel("not needed")
    snapshot = await flow.inspect()
    assert (states(snapshot), snapshot.state, snapshot.cancel_reason) == ({"^": "cancelled"}, "cancelled", "first")


# ── what cannot be ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["trip^end", "trip^", "a^b.c"])
async def test_ids_of_hooks_are_nobody_elses(producer: FlowProducer, name: str) -> None:
    with pytest.raises(InvalidValue, match=r"one without '\^'"):
        await producer.add(hk_trip(70), id=name)


async def test_flows_without_hooks_have_a_plan_that_says_so(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hk_numbers.flow(1))
        await flow.result(30)
    assert hk_numbers.flow(1).plan.digest[-1] not in "^~"
    assert (hk_trip(1).plan.digest[-1], hk_items(1).plan.digest[-1]) == ("^", "~")
    assert (await flow.inspect()).hooks is None
