"""What a flow's stages logged: the part of `FlowHandle` that reads it."""

from __future__ import annotations

import fnmatch
from abc import ABC, abstractmethod
from collections.abc import Sequence

from flowq.engine.backend import Backend
from flowq.errors import StageNotFound
from flowq.model.logs import LogLine
from flowq.model.plan import Plan
from flowq.store.meters import Meters


class FlowLogs(ABC):
    """Reads what stages logged."""

    id: str

    async def logs(self, stage: str | None = None) -> Sequence[LogLine]:
        """What the flow's stages have logged with Python's `logging`, in the order of time.

        Of each stage the last 200 messages and 16 kB of its latest run are kept, and the end of what earlier runs logged; those
        of a running stage come in at most once a second.

        Args:
            stage: only this one, or those that a pattern such as `encode*` fits.

        Raises:
            FlowNotFound: the flow does not exist (any more).
            StageNotFound: no stage is called so.
        """
        plan = await self._plan()
        chosen = {
            index: known.name
            for index, known in enumerate(plan.stages)
            if stage is None or fnmatch.fnmatchcase(known.name, stage)
        }
        if not chosen and stage is not None:
            raise StageNotFound(self.id, stage, [known.name for known in plan.stages])
        return await Meters(self._backend.store).logs(self.id, chosen)

    @property
    @abstractmethod
    def _backend(self) -> Backend: ...

    @abstractmethod
    async def _plan(self) -> Plan: ...
