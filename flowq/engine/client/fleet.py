"""The part of `FlowProducer` that tells of workers and queues."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.engine.client.client import Client
from flowq.model.fleet import QueueSnapshot, WorkerSnapshot
from flowq.store.fleet import Fleet
from flowq.store.views import Views


class FleetView(Client):
    """Tells who works, and what waits for them."""

    async def workers(self) -> Sequence[WorkerSnapshot]:
        """The processes that hold a lease now."""
        return await Views(self._open.store).workers()

    async def queues(self) -> Sequence[QueueSnapshot]:
        """The queues that workers serve or flows wait in, by name: what waits and runs, and who serves them.

        Without scanning keys: queues that no worker serves are known from the definitions of all flows that are kept.
        """
        store = self._open.store
        return (await Fleet(store, Views(store)).queues()).queues
