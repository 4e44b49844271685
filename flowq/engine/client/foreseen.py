"""How much a retry by hand would run again, without running it."""

from __future__ import annotations

from flowq.engine.flow.again import chosen_again, runs_again
from flowq.model.restart import restart
from flowq.model.snapshot import FlowSummary
from flowq.store.snapshots import Snapshots
from flowq.store.store import Store
from flowq.store.views import Views


class Foreseen:
    """Counts the stages that retries would run again.

    Args:
        store: where the flows are.
        views: of the same.
    """

    def __init__(self, store: Store, views: Views) -> None:
        self._store = store
        self._views = views
        # Plan's digest → whether it has maps: only of those flows every part has to be read.
        self._has_maps: dict[str, bool] = {}

    async def stages(self, flow: FlowSummary) -> int:
        """How many stages of an ended flow a retry would run again that had begun, and items that had not completed.

        Raises:
            FlowNotFound, CorruptState: it is gone, or can't be read.
        """
        known = (await self._views.heads([flow.id]))[0]
        if known is None:
            return 0
        plan = await (await self._store.plan(flow.id, known[0])).whole()
        if known[0] not in self._has_maps:
            self._has_maps[known[0]] = any(stage.mapping is not None for stage in plan.stages)
        if not self._has_maps[known[0]]:
            return flow.failed
        snapshot = await Snapshots(self._store, self._views).snapshot(flow.id)
        again = chosen_again(snapshot, plan, None, {})
        restarted = restart(plan, [stage.state for stage in snapshot.graph], again.stages, again.maps, again.alone)
        return runs_again(snapshot, restarted)
