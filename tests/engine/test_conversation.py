"""A call that meets damaged data costs what is damaged, and nothing else of the process."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flowq.engine.conversation import Conversation
from flowq.engine.room import WorkerRoom
from flowq.errors import CorruptState
from flowq.model.outcome import Claim, Exchanged, Outcome
from flowq.store.connection import Connection
from flowq.store.store import Store
from tests.store.acting import Actor, snapshots
from tests.store.graphs import one_stage

pytestmark = pytest.mark.anyio


class DamagedStore(Store):
    """A store on a real server in which everything about the flow `bad` is damaged."""

    async def exchange(self, tag: str, holder: str, *others: Any, **named: Any) -> Exchanged | None:
        outcomes: list[Outcome] = others[3]
        if any(outcome.flow_id == "bad" for outcome in outcomes):
            raise CorruptState("bad", "its record", "made so by this test")
        return await super().exchange(tag, holder, *others, **named)


class Idler:
    """Runs nothing, and remembers what it was given."""

    def __init__(self) -> None:
        self.claimed: asyncio.Queue[Claim] = asyncio.Queue()

    def start(self, claim: Claim) -> None:
        self.claimed.put_nowait(claim)

    def cancel(self, flow_id: str, index: int, fence: int) -> None:
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


async def test_an_entry_that_is_none_is_passed_over(valkey_url: str, namespace: str) -> None:
    store = Store(Connection(valkey_url, name="test"), namespace)
    await store.open()
    tag = store.partitions[0]
    await store.connection.command("RPUSH", f"{tag}:q:default:a:0", "scribbled by hand")
    await store.submit([("f1", one_stage())])
    assert (await (await Actor(store).begin()).claim_one()).flow_id == "f1"
    await store.close()
