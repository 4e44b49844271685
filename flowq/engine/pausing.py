"""What of pausing users touch: a part of `FlowProducer`, for queues and pipelines, and one of `FlowHandle`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flowq.engine.backend import Backend
from flowq.errors import FlowNotFound
from flowq.model.names import check_name
from flowq.model.pause import Pause
from flowq.model.told import as_text
from flowq.pipeline import Pipeline
from flowq.store.pauses import Pauses

_BY_CHARS_MAX = 200


class Pausing:
    """Pauses queues and pipelines: what runs goes on, nothing new of them is begun, in all workers, until they are resumed."""

    @property
    def _open(self) -> Backend:
        raise NotImplementedError

    async def pause_queue(self, name: str, *, by: str = "") -> None:
        """Pauses a queue. Done again, it changes nothing.

        Args:
            name: the queue's.
            by: who pauses it; shown by `inspect`.

        Raises:
            InvalidValue: no queue can be called so.
        """
        await Pauses(self._open.store).pause("queue", check_name(name, "queue"), _clipped(by))

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
        await Pauses(self._open.store).pause("pipeline", _name_of(pipeline), _clipped(by))

    async def resume_pipeline(self, pipeline: Pipeline[..., Any] | str) -> None:
        """Resumes a pipeline, whether it was paused or not."""
        await Pauses(self._open.store).resume("pipeline", _name_of(pipeline))

    async def pauses(self) -> Sequence[Pause]:
        """The queues and pipelines that are paused, the first one first. Paused flows: `list(state="paused")`."""
        return await Pauses(self._open.store).every()


class PausableFlow:
    """Pauses one flow."""

    id: str

    @property
    def _backend(self) -> Backend:
        raise NotImplementedError

    async def pause(self, *, by: str = "") -> bool:
        """Pauses the flow: what runs of it goes on, nothing new of it is begun. Its deadline still counts.

        Args:
            by: who pauses it; shown by `inspect`.

        Returns:
            Whether it is paused now, by this call or an earlier one; False: it has ended.

        Raises:
            FlowNotFound: it does not exist (any more).
        """
        return self._is(await Pauses(self._backend.store).pause("flow", self.id, _clipped(by)), "paused")

    async def resume(self) -> bool:
        """Resumes the flow, whether it was paused or not; False: it has ended.

        Raises:
            FlowNotFound: it does not exist (any more).
        """
        return self._is(await Pauses(self._backend.store).resume("flow", self.id), "resumed")

    def _is(self, word: str, wanted: str) -> bool:
        if word == "unknown":
            raise FlowNotFound(self.id)
        return word == wanted


def _name_of(pipeline: object) -> str:
    return check_name(pipeline.name if isinstance(pipeline, Pipeline) else pipeline, "pipeline name")


def _clipped(by: object) -> str:
    return as_text(by, _BY_CHARS_MAX)
