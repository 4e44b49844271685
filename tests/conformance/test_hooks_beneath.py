"""What runs after the end of flows that stages spawned."""

from __future__ import annotations

import pytest

from flowq import FlowProducer, Unrecoverable, context, pipeline, stage
from flowq.errors import DefinitionError, FlowFailed
from flowq.hooks import FlowEnd
from flowq.pipeline import subflow
from flowq.store import retries
from flowq.store.store import Store
from flowq.store.suspensions import Suspensions
from flowq.store.views import Views
from tests.conformance.after_the_end import beneath, hooks_completed
from tests.conformance.in_the_store import put_aside, remove
from tests.conformance.scene import broken, gate, ran
from tests.engine.work import until, working
from tests.scanned import keys_like

pytestmark = pytest.mark.anyio


@stage
async def hb_undo(made: str) -> None:
    ran[f"undo {made}"] += 1
    if "held" in broken:
        await gate.stop_async()
    if "undo" in broken:
        raise Unrecoverable("it can't be undone")


@stage(compensate=hb_undo)
async def hb_make(what: str) -> str:
    ran[what] += 1
    return what


@stage
async def hb_use(made: str) -> str:
    if "use" in broken:
        raise Unrecoverable("it is of no use")
    return made


@stage
async def hb_note(what: str) -> str:
    ran[f"noted {what}"] += 1
    return what


@stage
async def hb_close(end: FlowEnd) -> None:
    ran[f"closed {end.state}"] += 1
    await context().spawn(hb_note, end.pipeline)


@pipeline(finally_=hb_close)
def hb_closed(what: str) -> str:
    return hb_use(hb_make(what))


@pipeline
def hb_undone(what: str) -> str:
    return hb_use(hb_make(what))


@stage
async def hb_parent(what: str) -> str:
    ran["parent"] += 1
    return await context().spawn(hb_undone, what)


@stage
async def hb_closing_parent(what: str) -> str:
    return await context().spawn(hb_closed, what)


@pipeline
def hb_above(what: str) -> str:
    return hb_closing_parent(what)


@stage(queue="hb_undoing")
async def hb_undo_elsewhere(made: str) -> None:
    ran[f"undo {made}"] += 1


@stage(compensate=hb_undo_elsewhere)
async def hb_make_elsewhere(what: str) -> str:
    return what


@pipeline
def hb_undone_elsewhere(what: str) -> str:
    return hb_use(hb_make_elsewhere(what))


@stage
async def hb_bearing_parent(what: str) -> str:
    try:
        await context().spawn(hb_undone_elsewhere, what)
    except FlowFailed:
        await gate.stop_async()
    return what


@stage
async def hb_holding_parent(what: str) -> str:
    await context().spawn(hb_closed, what)
    await gate.stop_async()
    return what


EVERY = (hb_make, hb_use, hb_note, hb_close, hb_parent, hb_closing_parent)


async def test_what_a_stage_spawned_is_undone_when_it_fails(producer: FlowProducer) -> None:
    broken.add("use")
    async with working(producer, *EVERY):
        flow = await producer.add(hb_parent.flow("room"))
        with pytest.raises(FlowFailed):
            await flow.result(30)
        child = await beneath(producer, flow)
        await hooks_completed(child)
        assert ran["undo room"] == 1
        snapshot = await producer.flow(f"{child.id}^end").inspect()
        assert (snapshot.parent, snapshot.state) == (child.id, "completed")
        assert [summary.id for summary in await producer.list()] == [flow.id]


async def test_the_next_attempt_runs_what_it_spawned_again_once_that_was_undone(producer: FlowProducer) -> None:
    broken.update(("use", "held"))
    # With one slot: the stage must not hold it while it waits for the hooks.
    async with working(producer, *EVERY, concurrency=1):
        flow = await producer.add(hb_parent.with_options(attempts=2, backoff=None).flow("room"))
        await gate.until_arrived()
        broken.clear()
        gate.opened.set()
        assert await flow.result(30) == "room"
    assert (ran["room"], ran["undo room"]) == (2, 1)


async def test_a_retry_by_hand_finds_hooks_that_nobody_has_added_yet(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: object) -> None:
        """Whoever ended the flow went away."""

    broken.add("use")
    with monkeypatch.context() as patched:
        patched.setattr("flowq.engine.duties.closing.add_hooks", fails)
        async with working(producer, *EVERY):
            flow = await producer.add(hb_parent.flow("room"))
            with pytest.raises(FlowFailed):
                await flow.result(30)
            child = await beneath(producer, flow)
            broken.clear()
            await flow.retry()
            assert await flow.result(30) == "room"
    assert (ran["room"], ran["undo room"]) == (2, 1)
    assert (await child.inspect()).state == "completed"


async def test_a_hook_may_spawn_a_flow_which_is_found_through_it(producer: FlowProducer) -> None:
    async with working(producer, *EVERY):
        flow = await producer.add(hb_above("room"))
        assert await flow.result(30) == "room"
        child = await beneath(producer, flow)
        await hooks_completed(child)
        alone = await producer.add(hb_closed("hall"))
        await alone.result(30)
        await hooks_completed(alone)
        for ended in (child, alone):
            hooks = producer.flow(f"{ended.id}^end")
            (note,) = (await hooks.inspect()).spawned
            assert (note.state, note.id.rpartition("^")[0]) == ("completed", hooks.id)
    assert ran["noted hb_closed"] == 2


async def test_hooks_of_what_was_spawned_stay_as_long_as_the_root_and_go_with_it(producer: FlowProducer) -> None:
    broken.update(("use", "undo"))
    async with working(producer, *EVERY):
        flow = await producer.add(hb_parent.flow("room"))
        with pytest.raises(FlowFailed):
            await flow.result(30)
        child = await beneath(producer, flow)
        await until(child, lambda snapshot: snapshot.hooks is not None and snapshot.hooks.state == "failed")
    store: Store = producer._open.store
    hooks, tag = f"{child.id}^end", store.keys.tag_of(flow.id)
    assert await store.connection.command("PTTL", store.keys.flow(hooks)) == -1, "it does not expire by itself"
    await remove(producer, flow)
    assert not await Views(store).exists(child.id)
    assert not await Views(store).exists(hooks)
    assert await keys_like(store, f"{tag}:failed*") == []


async def test_what_was_spawned_stays_until_it_is_undone(producer: FlowProducer) -> None:
    broken.update(("use", "held"))
    store: Store = producer._open.store
    async with working(producer, *EVERY):
        flow = await producer.add(hb_parent.flow("room"))
        await gate.until_arrived()
        with pytest.raises(FlowFailed):
            await flow.result(30)
        child = await beneath(producer, flow)
        tag = store.keys.tag_of(flow.id)
        await remove(producer, flow)
        assert await Views(store).exists(child.id)
        gate.opened.set()
        await hooks_completed(child)
    await Suspensions(store).fell(tag, all_now=True)
    assert not await Views(store).exists(child.id)


async def test_what_was_put_aside_while_the_root_was_paused_is_undone_after_that_is_cancelled(producer: FlowProducer) -> None:
    broken.add("use")
    await producer.pause_queue("hb_undoing")
    async with working(producer, *EVERY, hb_make_elsewhere, hb_bearing_parent):
        flow = await producer.add(hb_bearing_parent.flow("room"))
        await gate.until_arrived()
        child = await beneath(producer, flow)
        await until(child, lambda snapshot: snapshot.hooks is not None)
        await flow.pause()
        await producer.resume_queue("hb_undoing")
        await put_aside(producer, f"flow:{flow.id}")
        await flow.cancel("it is not needed")
        await hooks_completed(child)
    assert ran["undo room"] == 1
    assert (await flow.inspect()).state == "cancelled"


async def test_a_completed_flow_that_is_cancelled_with_the_one_above_as_it_is_retried_has_hooks_of_this_end(
    producer: FlowProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: object) -> None:
        """Whoever retries it in parts went away."""

    async with working(producer, *EVERY, hb_holding_parent):
        flow = await producer.add(hb_holding_parent.flow("room"))
        await gate.until_arrived()
        child = await beneath(producer, flow)
        await hooks_completed(child)
        with monkeypatch.context() as patched:
            patched.setattr(retries, "PART_MAX", 1)
            patched.setattr(retries, "finish_retry", gone)
            await child.retry(from_stage="hb_make*")
            await flow.cancel("it is not needed")
        await until(child, lambda snapshot: snapshot.state == "cancelled" and ran["closed cancelled"] > 0)
        await hooks_completed(child)
    snapshot = await child.inspect()
    assert (snapshot.run, ran["noted hb_closed"]) == (2, 2), "once for each end"
    assert snapshot.hooks is not None
    assert snapshot.hooks.id == f"{child.id}^end2"


def test_workers_of_a_pipeline_serve_the_hooks_of_what_it_spawns() -> None:
    assert {hb_close.name, hb_undo.name} <= {reached.name for reached in hb_above.stages()}


def test_a_pipeline_with_an_end_of_its_own_can_not_be_nested() -> None:
    @pipeline
    def hb_nests(what: str) -> str:
        return subflow(hb_closed(what))

    @pipeline
    def hb_nests_what_can_be_undone(what: str) -> str:
        return subflow(hb_undone(what))

    with pytest.raises(DefinitionError, match="'hb_closed' has finally_=hb_close, and was called in the body of 'hb_nests'"):
        hb_nests("room")
    assert [hook.stage.stage for hook in hb_nests_what_can_be_undone("room").plan.hooks()] == ["hb_undo"]
