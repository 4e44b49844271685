"""What tests of whole flows look at and move in the store itself, because nothing that users have would do it now."""

from __future__ import annotations

from typing import Any

from flowq import FlowHandle, FlowProducer
from flowq.store.keys import ASIDE, DUE
from flowq.store.suspensions import Suspensions
from tests.engine.waiting import in_the_end


async def its_time_comes(producer: FlowProducer, flow: FlowHandle[Any], what: str = "") -> int:
    """What of the flow waits for a time, all or what begins so, waits no longer; returns how much that was."""
    store = producer._open.store
    due, ending = store.keys.tag_of(flow.id) + DUE, f":{flow.id}".encode()
    members = [
        member
        for member in await store.connection.command("ZRANGE", due, 0, -1)
        if member.endswith(ending) and member.startswith(what.encode())
    ]
    for member in members:
        await store.connection.command("ZADD", due, "XX", 1, member)
    return len(members)


async def entries_aside(producer: FlowProducer, what: str) -> int:
    """How many entries of what is paused, such as `flow:one`, have been put aside."""
    store = producer._open.store
    return sum([await store.connection.command("LLEN", tag + ASIDE + what) for tag in store.partitions])


async def put_aside(producer: FlowProducer, what: str, count: int = 1) -> None:
    """Returns when so many have been: no event tells of it."""

    async def are_aside() -> bool:
        return await entries_aside(producer, what) >= count

    await in_the_end(are_aside)


async def remove(producer: FlowProducer, flow: FlowHandle[Any]) -> None:
    """The flow's retention is over; and what stands beneath it is asked whether it may go."""
    store = producer._open.store
    tag = store.keys.tag_of(flow.id)
    digest = await store.connection.command("HGET", store.keys.flow(flow.id), "p")
    assert await store.prune(tag, 2**52, [digest + flow.id.encode()]) == 1
    await Suspensions(store).fell(tag, all_now=True)
