"""Retries by hand of more stages than one call restarts: each call is short, and one that is broken off is finished."""

from __future__ import annotations

import asyncio

import pytest

from flowq.engine.duties.duties import Closer
from flowq.store import retries
from flowq.store.connection import Connection
from flowq.store.keys import ASIDE, CLOSING
from flowq.store.pauses import Pauses
from flowq.store.store import Store
from flowq.store.views import Views
from tests.scanned import keys_like
from tests.store.acting import Actor, again, failed, snapshots
from tests.store.graphs import wide

pytestmark = pytest.mark.anyio

WIDTH = 2 * retries.PART_MAX + 50
SPEC = wide(WIDTH)


@pytest.fixture
async def flow(store: Store, actor: Actor) -> str:
    """A flow whose leaves all have failed."""
    await store.submit([("f1", SPEC)])
    while claims := await actor.claim(100):
        await actor.exchange(*map(failed, claims), tag=store.keys.tag_of("f1"))
    assert (await snapshots(store).snapshot("f1")).failed == WIDTH
    return "f1"


async def begin(store: Store, flow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A retry whose caller is gone before it has gone on with it."""

    async def gone(*_: object) -> None:
        return None

    snapshot = await snapshots(store).snapshot(flow)
    with monkeypatch.context() as patch:
        patch.setattr(retries, "finish_retry", gone)
        assert await store.retry(flow, snapshot.seq, again(snapshot, SPEC.plan))


async def more(store: Store, flow: str) -> bytes:
    return (await store.connection.run("retry_more", store.keys.tag_of(flow), flow))[0]


async def test_all_stages_run_again_and_the_flow_completes(store: Store, actor: Actor, flow: str) -> None:
    snapshot = await snapshots(store).snapshot(flow)
    assert await store.retry(flow, snapshot.seq, again(snapshot, SPEC.plan))
    after = await snapshots(store).snapshot(flow)
    assert (after.state, after.run, after.failed, after.finished) == ("running", 2, 0, 0)
    await everything_completes(store, actor, flow)


async def everything_completes(store: Store, actor: Actor, flow: str) -> None:
    assert await actor.finish() == WIDTH + 1
    assert (await snapshots(store).snapshot(flow)).state == "completed"
    tag = store.keys.tag_of(flow)
    assert await store.connection.command("EXISTS", f"{tag}{ASIDE}flow:{flow}") == 0
    assert await store.connection.command("ZCARD", tag + CLOSING) == 0


async def test_each_call_restarts_one_part(store: Store, flow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    await begin(store, flow, monkeypatch)
    counts = []
    for _ in range(3):
        snapshot = await snapshots(store).snapshot(flow)
        counts.append(sum(stage.state == "ready" for stage in snapshot.graph))
        await more(store, flow)
    assert counts == [0, retries.PART_MAX, 2 * retries.PART_MAX]


async def test_nothing_is_claimed_before_all_parts_are_done(
    store: Store, actor: Actor, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(store, flow, monkeypatch)
    await more(store, flow)
    assert await actor.claim(50) == []
    assert (await snapshots(store).snapshot(flow)).state == "running"
    await store.finish_retry(flow)
    await everything_completes(store, actor, flow)


async def test_a_retry_whose_caller_is_gone_is_finished_by_the_closing_duty(
    store: Store, actor: Actor, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(store, flow, monkeypatch)
    await more(store, flow)
    await asyncio.gather(*(Closer(store, Views(store)).run_once() for _ in range(3)))
    await everything_completes(store, actor, flow)


async def test_a_caller_that_dies_before_the_last_part_is_noted_has_changed_nothing(
    store: Store, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await snapshots(store).snapshot(flow)

    async def dies(*_: object) -> object:
        raise ConnectionError

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "run", dies)
        with pytest.raises(ConnectionError):
            await store.retry(flow, before.seq, again(before, SPEC.plan))
    after = await snapshots(store).snapshot(flow)
    assert (after.state, after.seq, after.run) == ("failed", before.seq, 1)
    assert await store.retry(flow, before.seq, again(before, SPEC.plan))


async def test_of_several_at_once_one_restarts_it(store: Store, actor: Actor, flow: str) -> None:
    snapshot = await snapshots(store).snapshot(flow)
    answers = await asyncio.gather(*(store.retry(flow, snapshot.seq, again(snapshot, SPEC.plan)) for _ in range(4)))
    assert sorted(answers) == [False, False, False, True]
    await everything_completes(store, actor, flow)


async def test_it_can_be_cancelled_in_the_middle_and_retried_again(
    store: Store, actor: Actor, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(store, flow, monkeypatch)
    await more(store, flow)
    await actor.claim(50)
    assert await store.cancel(flow, "", WIDTH + 1) == "cancelled"
    assert await more(store, flow) == b"retried"
    snapshot = await snapshots(store).snapshot(flow)
    assert (snapshot.state, await store.connection.command("ZCARD", store.keys.tag_of(flow) + CLOSING)) == ("cancelled", 0)
    assert await store.retry(flow, snapshot.seq, again(snapshot, SPEC.plan))
    await everything_completes(store, actor, flow)


async def test_who_pauses_it_in_the_middle_finishes_it_first(
    store: Store, actor: Actor, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(store, flow, monkeypatch)
    await more(store, flow)
    assert await Pauses(store).pause("flow", flow, "jo") == "paused"
    assert await actor.claim(50) == []
    assert await Pauses(store).resume("flow", flow) == "resumed"
    await everything_completes(store, actor, flow)


async def test_one_whose_parts_were_deleted_ends_and_can_be_retried_again(
    store: Store, actor: Actor, flow: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await begin(store, flow, monkeypatch)
    await more(store, flow)
    (parts,) = await keys_like(store, f"{store.keys.tag_of(flow)}:s:*")
    await store.connection.command("UNLINK", parts)
    await Closer(store, Views(store)).run_once()
    await Closer(store, Views(store)).run_once()
    snapshot = await snapshots(store).snapshot(flow)
    assert (snapshot.state, snapshot.cancel_reason) == ("cancelled", "what was to be retried was lost")
    assert await store.retry(flow, snapshot.seq, again(snapshot, SPEC.plan))
    await everything_completes(store, actor, flow)
