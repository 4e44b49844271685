"""The part of `FlowProducer` that pauses queues and pipelines, and tells what is paused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowq.engine.client.client import Client
from flowq.errors import InvalidValue
from flowq.model.names import check_name
from flowq.model.pause import Pause, as_kept
from flowq.pipeline import Pipeline
from flowq.store.finder import Finder
from flowq.store.pauses import Pauses
from flowq.store.views import Views


class Pausing(Client):
    """Pauses queues and pipelines: what runs goes on, nothing new of them is begun, in all workers, until they are resumed."""

    async def pause_queue(self, name: str, *, by: str = "") -> None:
        """Pauses a queue. Done again, it changes nothing.

        Args:
            name: the queue's.
            by: who pauses it; shown by `inspect`.

        Raises:
            InvalidValue: no queue can be called so.
        """
        await Pauses(self._open.store).pause("queue", check_name(name, "queue"), as_kept(by))

    async def resume_queue(self, name: str) -> None:
        """Resumes a queue, whether it was paused or not."""
        await Pauses(self._open.store).resume("queue", check_name(name, "queue"))

    async def pause_pipeline(self, pipeline: Pipeline[..., Any] | str, *, by: str = "") -> None:
        """Pauses all flows of a pipeline, those to come as well. Done again, it changes nothing.

        Args:
            pipeline: the pipeline, or its name.
            by: who pauses it; shown by `inspect`.

        Raises:
            InvalidValue: no pipeline can be called so.
        """
        await Pauses(self._open.store).pause("pipeline", _name_of(pipeline), as_kept(by))

    async def resume_pipeline(self, pipeline: Pipeline[..., Any] | str) -> None:
        """Resumes a pipeline, whether it was paused or not."""
        await Pauses(self._open.store).resume("pipeline", _name_of(pipeline))

    async def pauses(self, *, flows: int = 0) -> Sequence[Pause]:
        """The queues and pipelines that are paused, the first one first; then flows, if they are asked for.

        Args:
            flows: how many paused flows at most, the newest first, without those that stages spawned. All flows are looked
                through that have not ended, as for `list(state="paused")`, which goes on page by page.

        Raises:
            InvalidValue: the number is out of range.
        """
        if type(flows) is not int or flows < 0:
            raise InvalidValue("flows", flows, "a whole number from 0 on")
        store = self._open.store
        found = await Pauses(store).every()
        return found + await Finder(store, Views(store)).paused(flows) if flows else found


def _name_of(pipeline: object) -> str:
    return check_name(pipeline.name if isinstance(pipeline, Pipeline) else pipeline, "pipeline name")
