"""What a flow's stages logged: the part of `FlowHandle` that reads it."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from flowq.engine.flow.one_flow import OneFlow
from flowq.errors import StageNotFound
from flowq.model.items import is_item, item_index
from flowq.model.logs import LogLine
from flowq.store.maps import group_of
from flowq.store.meters import Meters


class FlowLogs(OneFlow):
    """Reads what stages logged."""

    async def logs(self, stage: str | None = None) -> Sequence[LogLine]:
        """What the flow's stages have logged with Python's `logging`, in the order of time.

        Of each stage the last 200 messages and 16 kB of its latest run are kept, and the end of what earlier runs logged; those
        of a running stage come in at most once a second.

        Args:
            stage: only this one, or those that a pattern such as `encode*` fits, of maps all items; or an item: `encode[17]`.

        Raises:
            FlowNotFound: the flow does not exist (any more).
            StageNotFound: no stage is called so.
        """
        plan, store = await self._plan(), self._backend.store
        if stage is not None and (index := plan.find(stage)) is not None and is_item(index):
            return await Meters(store).logs(self.id, {index: stage})
        chosen = {
            index: known.name
            for index, known in enumerate(plan.stages)
            if stage is None or fnmatch.fnmatchcase(known.name, stage)
        }
        if not chosen and stage is not None:
            raise StageNotFound(self.id, stage, [known.name for known in plan.stages])
        for index in [index for index in chosen if plan.stages[index].mapping is not None]:
            if (group := await group_of(store, self.id, index)) is not None:
                chosen |= {item: plan.name_of(item) for item in range(item_index(index, 0), item_index(index, group.count))}
        return await Meters(store).logs(self.id, chosen)
