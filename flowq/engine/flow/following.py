"""What a follower of a flow hears from now on: its events as they come and, while none does, why each stage waits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

from flowq.model.event import Event, Gap
from flowq.model.plan import Plan
from flowq.model.snapshot import FlowSnapshot, Reason
from flowq.store.events import WireEvent
from flowq.store.feed import named

# After so long without a numbered event the flow is looked at: one may have been lost, or something stands still.
QUIET_SECONDS = 5.0


async def live_events(
    queue: asyncio.Queue[WireEvent],
    seq: int,
    name: Callable[[int], str],
    inspect: Callable[[], Awaitable[FlowSnapshot]],
    plan: Callable[[], Awaitable[Plan]],
) -> AsyncIterator[Event | Gap]:
    """The events behind number `seq`, until the flow has ended.

    Args:
        queue: where they arrive.
        seq: the number of the last one that was told.
        name: the name of a stage by its index.
        inspect: the flow as it stands.
        plan: its plan, asked for when another flow has taken its place.
    """
    loop = asyncio.get_running_loop()
    look_at = loop.time() + QUIET_SECONDS
    held = _Held()
    while True:
        try:
            async with asyncio.timeout_at(look_at):
                event = await queue.get()
        except TimeoutError:
            look_at = loop.time() + QUIET_SECONDS
            snapshot = await inspect()
            if snapshot.seq > seq and queue.empty():
                yield Gap(flow_id=snapshot.id, after=seq, before=snapshot.seq + 1, snapshot=snapshot)
                seq = snapshot.seq
            if snapshot.is_final and queue.empty():
                return
            for waiting in held.news(snapshot):
                yield waiting
            continue
        if event.seq == 0:
            yield named(event, name)
        elif event.seq > seq:
            look_at = loop.time() + QUIET_SECONDS
            if event.seq > seq + 1:
                yield Gap(flow_id=event.flow_id, after=seq, before=event.seq, snapshot=await inspect())
            seq = event.seq
            if event.verb == "replaced":  # another flow, perhaps with other stages
                name = (await plan()).name_of
            told = named(event, name)
            yield told
            if told.ends_the_flow and queue.empty():  # else it was retried at once
                return


class _Held:
    """What a follower has been told of stages that do not run: each reason once, as long as it stays the same."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[str, tuple[str, ...]]] = {}

    def news(self, snapshot: FlowSnapshot) -> list[Event]:
        reasons: dict[str, Reason] = {stage.name: stage.reason for stage in snapshot.graph if stage.reason is not None}
        # Not the sentence: that of a wait tells how long it still lasts.
        now = {stage: (reason.code, reason.on) for stage, reason in reasons.items()}
        fresh = [stage for stage, what in now.items() if self._told.get(stage) != what]
        self._told = now
        return [
            Event(
                flow_id=snapshot.id, seq=0, verb="held", at=snapshot.at, stage=stage, note=reasons[stage].sentence,
                reason=reasons[stage],
            )
            for stage in fresh
        ]  # fmt: skip
