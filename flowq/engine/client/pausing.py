"""The part of `FlowProducer` that pauses queues and pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowq.engine.client.client import Client
from flowq.model.names import check_name
from flowq.model.pause import Pause, as_kept
from flowq.pipeline import Pipeline
from flowq.store.pauses import Pauses


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

    async def pauses(self) -> Sequence[Pause]:
        """The queues and pipelines that are paused, the first one first. Paused flows: `list(state="paused")`."""
        return await Pauses(self._open.store).every()


def _name_of(pipeline: object) -> str:
    return check_name(pipeline.name if isinstance(pipeline, Pipeline) else pipeline, "pipeline name")
