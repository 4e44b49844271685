"""`OneFlow`: what every part of `FlowHandle` stands on: the flow's id, the way to the server, and what is read of it there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from flowq.engine.backend import Backend
from flowq.engine.flow.item_pages import every_item
from flowq.errors import FlowNotFound, FlowNotMade
from flowq.model.plan import Plan
from flowq.model.schedule import problem_of
from flowq.model.snapshot import FlowSnapshot
from flowq.store.feed import Feed
from flowq.store.schedules import Schedules
from flowq.store.snapshots import Snapshots
from flowq.store.views import FLOW_STATES, Views

T = TypeVar("T")

# Workers look once a second what they are to make.
_MADE_IN_SECONDS = 5.0
_LOOK_AGAIN_SECONDS = 0.2


class Opened(NamedTuple):
    """What an open producer works on."""

    backend: Backend
    feed: Feed


class Look(NamedTuple):
    """How a flow stands.

    Attributes:
        state: its state.
        plan: the digest of its plan.
        results: stage → its packed result, of the stages that were asked for and have one.
    """

    state: str
    plan: str
    results: Mapping[int, bytes]


class OneFlow:
    """A flow that can be looked at.

    Args:
        opened: gives what the producer works on; refuses while it is not open, and so does every method.
        flow_id: the flow's id.
    """

    def __init__(self, opened: Callable[[], Opened], flow_id: str) -> None:
        self.id = flow_id
        self._opened = opened

    async def inspect(self, *, items: bool = False) -> FlowSnapshot:
        """The flow as it stands: graph, states, attempts, timings, reasons.

        Args:
            items: list all items of maps, however many; else only those that failed first.

        Raises:
            FlowNotFound: it does not exist (any more).
            FlowNotMade: somebody has run its schedule, and no worker makes it. One that knows the pipeline is waited for.
        """
        snapshots = Snapshots(self._backend.store, Views(self._backend.store))
        give_up_at = time.monotonic() + _MADE_IN_SECONDS
        while True:
            try:
                return await self._read(lambda: snapshots.snapshot(self.id, every_item if items else None))
            except FlowNotMade as error:
                if error.is_cancelled or error.why or time.monotonic() >= give_up_at:
                    raise
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    # ── for the parts ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _backend(self) -> Backend:
        return self._opened().backend

    async def _is_made(self, seconds: float | None) -> bool:
        """Waits, so long at most, while somebody has run its schedule by hand and no worker has made the flow yet."""
        give_up_at = None if seconds is None else time.monotonic() + seconds
        while await Schedules(self._backend.store).is_asked_for(self.id):
            if give_up_at is not None and time.monotonic() >= give_up_at:
                return False
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)
        return True

    async def _read(self, read: Callable[[], Awaitable[T]]) -> T:
        """What `read` finds of the flow; if it finds none because no worker has made it, FlowNotMade says so."""
        try:
            return await read()
        except FlowNotFound:
            if isinstance(error := await self._not_found(), FlowNotMade):
                raise error from None
        return await read()  # it may have been made between these two looks

    async def _not_found(self) -> FlowNotFound:
        """Why there is no flow of this id."""
        store = self._backend.store
        schedules = Schedules(store)
        if await schedules.is_asked_for(self.id):
            schedule = await schedules.of_flow(self.id)
            return FlowNotMade(self.id, problem_of(schedule, await Views(store).workers()) if schedule else "")
        if await schedules.is_called_off(self.id):
            return FlowNotMade(self.id, is_cancelled=True)
        return FlowNotFound(self.id)

    async def _plan(self) -> Plan:
        return await self._read(self._plan_now)

    async def _plan_now(self) -> Plan:
        digest = await self._backend.store.connection.command("HGET", self._backend.store.keys.flow(self.id), "p")
        return await self._plan_of((digest or b"").decode())

    async def _plan_of(self, digest: str) -> Plan:
        if not digest:
            raise FlowNotFound(self.id)
        async with self._backend.store.unless_removed(self.id):
            return await (await self._backend.store.plan(self.id, digest)).whole()

    async def _state(self) -> str:
        return (await self._look()).state

    async def _look(self, results: Sequence[int] = ()) -> Look:
        head, digest, packed = await self._read(lambda: Views(self._backend.store).head_and_plan(self.id, results))
        return Look("running" if head.status in ("z", "y") else FLOW_STATES[head.status], digest, packed)
