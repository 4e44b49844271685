"""A call that meets damaged data costs what is damaged, and nothing else of the process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from types import UnionType
from typing import Any

import pytest

from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.capacity.slots import QueueSlots
from flowq.engine.exchange import conversation as conversations
from flowq.engine.exchange.conversation import Conversation
from flowq.engine.run.stage_run import RunKey
from flowq.errors import CorruptState
from flowq.model.exchanged import Exchanged
from flowq.model.outcome import Claim, Complete, Fail, Outcome, Progress, Release
from flowq.store.connection import Connection
from flowq.store.store import Store
from tests.engine.waiting import in_the_end
from tests.store.acting import Actor, failed, snapshots
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio


class DamagedStore(Store):
    """A store on a real server in which everything about the flow `bad` is damaged, or what takes `unstorable` outcomes is."""

    unstorable: type[Outcome] | UnionType = Outcome

    def __init__(self, connection: Connection, namespace: str) -> None:
        super().__init__(connection, namespace)
        self.refused: asyncio.Queue[Outcome] = asyncio.Queue()

    async def exchange(self, tag: str, holder: str, *others: Any, **named: Any) -> Exchanged | None:
        outcomes: list[Outcome] = others[3]
        for outcome in outcomes:
            if outcome.flow_id == "bad" and isinstance(outcome, self.unstorable):
                self.refused.put_nowait(outcome)
                raise CorruptState("bad", "its record", "made so by this test")
        return await super().exchange(tag, holder, *others, **named)


class HeldStore(Store):
    """A store on a real server that asks for work only when the test lets it."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        super().__init__(connection, namespace)
        self.asked, self.let_on = asyncio.Event(), asyncio.Event()

    async def exchange(self, tag: str, holder: str, *others: Any, **named: Any) -> Exchanged | None:
        if others[6]:
            self.asked.set()
            await self.let_on.wait()
        return await super().exchange(tag, holder, *others, **named)


class NotingRoom(WorkerRoom):
    """Room that tells when a partition asked for some in vain, and when it left the queue."""

    def __init__(self) -> None:
        super().__init__({"default": ["default:b"]}, 10)
        self.came_in_vain, self.left = asyncio.Event(), asyncio.Event()

    def admits(self, partition: str = "") -> bool:
        is_admitted = super().admits(partition)
        if not is_admitted:
            self.came_in_vain.set()
        return is_admitted

    def leave(self, partition: str = "") -> None:
        super().leave(partition)
        self.left.set()


class Idler:
    """Runs nothing, and remembers what it was given."""

    def __init__(self) -> None:
        self.claimed: asyncio.Queue[Claim] = asyncio.Queue()

    def start(self, claim: Claim) -> None:
        self.claimed.put_nowait(claim)

    def cancel(self, key: RunKey) -> None:
        raise AssertionError("nothing was cancelled")

    def close(self, member: str) -> None:
        raise AssertionError("nothing fails fast")

    def refused(self, outcome: Outcome, word: str, holder: str) -> None:
        raise AssertionError(f"{outcome} was refused: {word}")


async def test_an_outcome_that_meets_damage_costs_no_other(valkey_url: str, namespace: str) -> None:
    store = DamagedStore(Connection(valkey_url, name="test"), namespace)
    await store.open()
    tag, idler = store.partitions[0], Idler()
    actor = await Actor(store).begin()
    ids = ["f1", "bad", "f2", "f3"]
    await store.submit([(flow_id, one_stage()) for flow_id in ids])
    outcomes = [await actor.completed(claim) for claim in await actor.claim(4)]
    room = WorkerRoom({"default": ["default:a"]}, 10)
    conversation = Conversation(store, tag, actor.id, room, idler, lambda: None)
    for outcome in outcomes:
        conversation.report(outcome)
    async with asyncio.timeout(30):
        holding = asyncio.create_task(conversation.hold())
        await store.submit([("later", one_stage())])
        conversation.wake()
        assert (await idler.claimed.get()).flow_id == "later", "it goes on claiming"
        conversation.end()
        await holding
    states = {flow_id: (await snapshots(store).snapshot(flow_id)).state for flow_id in ids}
    assert states == {"f1": "completed", "f2": "completed", "f3": "completed", "bad": "running"}
    await store.close()


@contextlib.asynccontextmanager
async def talking(conversation: Conversation) -> AsyncIterator[None]:
    """Ends the conversation with the block; what it raises is raised there."""
    async with asyncio.timeout(30):
        holding = asyncio.create_task(conversation.hold())
        yield
        conversation.end()
        await holding


async def test_an_outcome_that_can_not_be_stored_becomes_a_failure_that_says_why(valkey_url: str, namespace: str) -> None:
    store = DamagedStore(Connection(valkey_url, name="test"), namespace)
    store.unstorable = Complete
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([("bad", one_stage(attempts=3))])
    room = WorkerRoom({"default": ["default:b"]}, 10)
    conversation = Conversation(store, store.partitions[0], actor.id, room, Idler(), lambda: None)
    conversation.report(await actor.completed(await actor.claim_one()))
    async with talking(conversation):
        assert isinstance(await store.refused.get(), Complete)
    snapshot = await snapshots(store).snapshot("bad")
    (run,) = snapshot.stage("a").history
    assert (snapshot.state, run.outcome) == ("failed", "failed")
    assert run.cause.startswith("CorruptState: flow 'bad' is damaged: what stage 0 did can't be stored: ")
    assert "made so by this test" in run.cause
    await store.close()


async def test_a_failure_that_can_not_be_stored_is_said_once_and_tried_again_until_the_data_are_mended(
    valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(conversations, "_POLL_SECONDS", 0.05)
    store = DamagedStore(Connection(valkey_url, name="test"), namespace)
    await store.open()
    actor, idler = await Actor(store).begin(), Idler()
    await store.submit([("bad", one_stage())])
    room = WorkerRoom({"default": ["default:a"]}, 10)
    conversation = Conversation(store, store.partitions[0], actor.id, room, idler, lambda: None)
    conversation.report(failed(await actor.claim_one(), "Boom"))
    async with talking(conversation):
        for _ in range(3):
            assert isinstance(await store.refused.get(), Fail)
        await store.submit([("later", one_stage())])
        conversation.wake()
        assert (await idler.claimed.get()).flow_id == "later", "it goes on claiming in between"
        store.unstorable = Release

        async def has_failed() -> bool:
            return (await snapshots(store).snapshot("bad")).state == "failed"

        await in_the_end(has_failed)
    assert [run.cause for run in (await snapshots(store).snapshot("bad")).stage("a").history] == ["Boom: it broke"]
    assert len([record for record in caplog.records if "can't be stored" in record.getMessage()]) == 1
    await store.close()


async def test_a_partition_without_work_does_not_keep_its_place_in_the_queue_for_room(valkey_url: str, namespace: str) -> None:
    store, room = HeldStore(Connection(valkey_url, name="test"), namespace), NotingRoom()
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage())])
    store.let_on.set()
    outcome = await actor.completed(await actor.claim_one())
    store.let_on.clear()
    store.asked.clear()
    conversation = Conversation(store, store.partitions[0], actor.id, room, Idler(), lambda: None)
    async with talking(conversation):
        await store.asked.wait()
        conversation.report(outcome)  # the other line reports it, and would claim if there were room
        await room.came_in_vain.wait()
        assert not room.admits("another")
        store.let_on.set()
        await room.left.wait()
        assert room.admits("another")
    await store.close()


async def test_an_entry_that_is_none_is_passed_over(valkey_url: str, namespace: str) -> None:
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open()
    tag = store.partitions[0]
    await store.connection.command("RPUSH", f"{tag}:q:default:a:0", "scribbled by hand")
    await store.submit([("f1", one_stage())])
    assert (await (await Actor(store).begin()).claim_one()).flow_id == "f1"
    await store.close()


@contextlib.asynccontextmanager
async def asking(
    valkey_url: str, namespace: str, idler: Idler, room: WorkerRoom | None = None
) -> AsyncIterator[tuple[HeldStore, Conversation, asyncio.Task[None]]]:
    """A conversation whose first question, which will bring the flow `f1`, is under way until the store is let on."""
    store = HeldStore(Connection(valkey_url, name="test"), namespace)
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage())])
    room = room or WorkerRoom({"default": ["default:a"]}, 10)
    conversation = Conversation(store, store.partitions[0], actor.id, room, idler, lambda: None)
    async with asyncio.timeout(30):
        holding = asyncio.create_task(conversation.hold())
        await store.asked.wait()
        yield store, conversation, holding
    await store.close()


async def test_who_stops_claiming_can_wait_for_what_was_asked_before(valkey_url: str, namespace: str) -> None:
    """Else a worker that is told to stop would end while a claim is under way, and kill what it brings."""
    idler = Idler()
    async with asking(valkey_url, namespace, idler) as (store, conversation, holding):
        conversation.stop_claiming()
        waiting = asyncio.create_task(conversation.until_claims_are_in())
        await asyncio.sleep(0)
        assert not waiting.done()
        store.let_on.set()
        await waiting
        assert (await idler.claimed.get()).flow_id == "f1"
        conversation.end()
        await holding


async def test_what_ends_while_the_first_line_asks_is_told_by_the_second(
    valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "_POLL_SECONDS", 3600.0)
    async with asking(valkey_url, namespace, Idler()) as (store, conversation, holding):
        await store.submit([("f2", one_stage())])
        actor = Actor(Store(store.connection, namespace), conversation._holder)
        await actor.store.open()
        claims = await actor.claim(2)
        for claim in claims:
            conversation.report(await actor.completed(claim))

        async def has_ended() -> bool:
            return all([(await snapshots(store).snapshot(claim.flow_id)).is_final for claim in claims])

        await in_the_end(has_ended)
        assert len(claims) == 2
        store.let_on.set()
        conversation.end()
        await holding


class HeldOutcomes(Store):
    """A store on a real server that reports outcomes only when the test lets it, and notes what progress it told."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        super().__init__(connection, namespace)
        self.reporting, self.let_on = asyncio.Event(), asyncio.Event()
        self.told: asyncio.Queue[float] = asyncio.Queue()

    async def exchange(self, tag: str, holder: str, *others: Any, **named: Any) -> Exchanged | None:
        for progress in others[4]:
            self.told.put_nowait(progress.fraction)
        if others[3]:
            self.reporting.set()
            await self.let_on.wait()
        return await super().exchange(tag, holder, *others, **named)


async def test_progress_is_told_by_another_line_where_the_one_that_waited_for_its_time_talks_for_long(
    valkey_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "_POLL_SECONDS", 3600.0)
    store = HeldOutcomes(Connection(valkey_url, name="test"), namespace)
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([(name, one_stage()) for name in ("f1", "f2")])
    one, other = await actor.claim(2)
    outcome = await actor.completed(other)
    (tag,) = {store.keys.tag_of(claim.flow_id) for claim in (one,)}
    room = WorkerRoom({"default": ["default:nothing"]}, 1)
    conversation = Conversation(store, tag, actor.id, room, Idler(), lambda: None)
    async with asyncio.timeout(30):
        holding = asyncio.create_task(conversation.hold())
        conversation.report_progress(Progress(*one.run, 0.1, ""))
        assert await store.told.get() == 0.1
        (first, *_) = conversation._lines.all

        async def has_time() -> bool:
            return not first.is_talking

        await in_the_end(has_time)
        conversation.report_progress(Progress(*one.run, 0.5, ""))  # too soon: the first line waits a moment with it
        for _ in range(5):
            await asyncio.sleep(0)
        conversation.report(outcome)
        await store.reporting.wait()
        assert await store.told.get() == 0.5
        store.let_on.set()
        conversation.end()
        await holding
    await store.close()


async def test_what_is_claimed_after_the_end_is_given_back(valkey_url: str, namespace: str) -> None:
    idler = Idler()
    async with asking(valkey_url, namespace, idler) as (store, conversation, holding):
        conversation.end()
        store.let_on.set()
        await holding
        stage = (await snapshots(store).snapshot("f1")).stage("a")
    assert (idler.claimed.empty(), stage.state, stage.attempt, stage.history[0].outcome) == (True, "ready", 0, "released")


async def test_what_is_given_back_uses_neither_room_nor_a_slot_of_the_host(
    valkey_url: str, namespace: str, tmp_path: Path
) -> None:
    slots = QueueSlots(tmp_path / "slots", {"default": 3})
    room = WorkerRoom({"default": ["default:a"]}, 10, slots=slots, limited=["default"])
    async with asking(valkey_url, namespace, Idler(), room) as (store, conversation, holding):
        conversation.end()
        assert slots.held("default") == 3
        store.let_on.set()
        await holding
    assert slots.held("default") == 0
    assert room.take(50, "another").capacity == 10
    slots.close()
