"""Two calls are in flight: the answer of one may overtake that of the other."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from flowq.engine.capacity.room import WorkerRoom
from flowq.engine.exchange.conversation import Conversation
from flowq.engine.run.stage_run import RunKey
from flowq.model.exchanged import Exchanged
from flowq.model.outcome import Claim, Note, Outcome, Progress, opaque
from flowq.store.connection import Connection
from flowq.store.store import Store
from flowq.store.views import Views
from tests.store.acting import Actor
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio


class SlowStore(Store):
    """A store on a real server from which answers with claims come late."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        super().__init__(connection, namespace)
        self.has_claimed, self.arrives = asyncio.Event(), asyncio.Event()

    async def exchange(self, tag: str, holder: str, *others: Any, **named: Any) -> Exchanged | None:
        answer = await super().exchange(tag, holder, *others, **named)
        if answer is not None and answer.claims:
            self.has_claimed.set()
            await self.arrives.wait()
        return answer


class Turnstile(Store):
    """A store on a real server; once it is shut, calls pass one at a time."""

    def __init__(self, connection: Connection, namespace: str) -> None:
        super().__init__(connection, namespace)
        self.is_shut, self.waiting, self.passes = False, asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def exchange(self, tag: str, holder: str, *others: Any, **named: Any) -> Exchanged | None:
        if self.is_shut:
            self.waiting.release()
            await self.passes.acquire()
        return await super().exchange(tag, holder, *others, **named)


class Noter:
    """Runs nothing, and notes what it was told."""

    def __init__(self) -> None:
        self.started: list[str] = []
        self.claims: asyncio.Queue[Claim] = asyncio.Queue()
        self.has_started, self.cancelled = asyncio.Event(), asyncio.Event()

    def start(self, claim: Claim) -> None:
        self.started.append(claim.flow_id)
        self.claims.put_nowait(claim)
        self.has_started.set()

    def cancel(self, key: RunKey) -> None:
        self.cancelled.set()

    def close(self, member: str) -> None:
        raise AssertionError("nothing fails fast")

    def refused(self, outcome: Outcome, word: str, holder: str) -> None:
        raise AssertionError("nothing was reported")


async def test_a_stage_of_which_it_is_heard_first_that_it_was_cancelled_does_not_run(valkey_url: str, namespace: str) -> None:
    store = SlowStore(Connection(valkey_url, name="test"), namespace)
    noter, room = Noter(), WorkerRoom({"default": ["default:a"]}, 10)
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage())])
    conversation = Conversation(store, store.partitions[0], actor.id, room, noter, lambda: None)
    async with asyncio.timeout(30):
        holding = asyncio.create_task(conversation.hold())
        await store.has_claimed.wait()
        assert await store.cancel("f1", "", 1) == "cancelled"
        conversation.report_progress(Progress("another", 0, 1, "n", 0.5, ""))  # so that the other line says something
        await noter.cancelled.wait()
        store.arrives.set()
        await store.submit([("f2", one_stage())])
        conversation.wake()
        await noter.has_started.wait()
        conversation.end()
        await holding
    assert noter.started == ["f2"]
    assert room.take(50).capacity == 9, "the cancelled one uses no room"
    await store.close()


async def test_what_is_heard_of_a_flow_that_was_removed_is_not_taken_for_one_that_has_its_id_now(
    valkey_url: str, namespace: str
) -> None:
    store = Turnstile(Connection(valkey_url, name="test"), namespace)
    noter, room = Noter(), WorkerRoom({"default": ["default:a"]}, 10)
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage()), ("f2", one_stage())])
    conversation = Conversation(store, store.partitions[0], actor.id, room, noter, lambda: None, batch=4)
    async with asyncio.timeout(30):
        holding = asyncio.create_task(conversation.hold())
        claims = {claim.flow_id: claim for claim in [await noter.claims.get(), await noter.claims.get()]}
        store.is_shut = True
        conversation.wake()
        await store.waiting.acquire()
        # The call that waits will tell of the earlier one and bring the later one, while another call is under way.
        await store.cancel("f1", "", 1)
        entry = f"{claims['f1'].plan}f1".encode()
        assert await store.prune(store.partitions[0], await Views(store).now() + 1_000, [entry]) == 1
        await store.submit([("f1", one_stage())])
        conversation.report(await actor.completed(claims["f2"]))
        await store.waiting.acquire()
        store.passes.release()
        assert (await noter.claims.get()).token != claims["f1"].token
        conversation.end()
        for _ in range(10):
            store.passes.release()
        await holding
    await store.close()


async def test_a_log_that_comes_late_does_not_take_the_place_of_the_last(valkey_url: str, namespace: str) -> None:
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open()
    actor = await Actor(store).begin()
    await store.submit([("f1", one_stage())])
    claim = await actor.claim_one()
    tag, outcome = store.partitions[0], await actor.completed(claim)
    last, late = Note(*claim.run, 1, opaque(b"first\nlast\n")), Note(*claim.run, 0, opaque(b"first\n"))
    await store.exchange(tag, actor.id, 1, 1, "a", [outcome], [], [], 0, parks=False, notes=[last])
    await store.exchange(tag, actor.id, 1, 2, "b", [], [], [], 0, parks=False, notes=[late])
    kept = await store.connection.command("HGET", store.keys.flow("f1"), "l0")
    assert msgspec.msgpack.decode(kept, strict=False)[2] == "first\nlast\n"
    await store.close()
