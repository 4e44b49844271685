"""`OneFlow`: what every part of `FlowHandle` stands on: the flow's id, the way to the server, and what is read of it there."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flowq.engine.backend import Backend
from flowq.engine.flow.item_pages import every_item
from flowq.errors import FlowNotFound
from flowq.model.plan import Plan
from flowq.model.snapshot import FlowSnapshot
from flowq.store.feed import Feed
from flowq.store.snapshots import Snapshots
from flowq.store.views import FLOW_STATES, Views


class Opened(NamedTuple):
    """What an open producer works on."""

    backend: Backend
    feed: Feed


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
        """
        snapshots = Snapshots(self._backend.store, Views(self._backend.store))
        return await (snapshots.snapshot(self.id, every_item) if items else snapshots.snapshot(self.id))

    # ── for the parts ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _backend(self) -> Backend:
        return self._opened().backend

    async def _plan(self) -> Plan:
        digest = await self._backend.store.connection.command("HGET", self._backend.store.keys.flow(self.id), "p")
        if digest is None:
            raise FlowNotFound(self.id)
        return await (await self._backend.store.plan(self.id, digest.decode())).whole()

    async def _state(self) -> str:
        head = await Views(self._backend.store).head(self.id)
        return "running" if head.status in ("z", "y") else FLOW_STATES[head.status]
