"""`Client`: what every part of `FlowProducer` stands on: the connection while it is open, and handles of flows behind it."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self, TypeVar, overload

from flowq.engine.backend import Backend, StorageReader
from flowq.engine.flow.handle import FlowHandle
from flowq.engine.flow.one_flow import Opened
from flowq.errors import DurabilityUnavailable, InvalidValue
from flowq.model.artifact import bound_reader
from flowq.model.names import check_flow_id
from flowq.pipeline import Pipeline
from flowq.settings import Settings
from flowq.store.feed import Feed

R = TypeVar("R")


class Client:
    """A connection to a server, in `async with`.

    Args:
        settings: where the server is.
        must_fsync: whether a server that does not write to disk before it answers is refused.
    """

    def __init__(self, settings: Settings, *, must_fsync: bool) -> None:
        self._settings = settings
        self._must_fsync = must_fsync
        self._opened: Opened | None = None

    async def __aenter__(self) -> Self:
        """Connects."""
        if self._opened is not None:
            raise InvalidValue("FlowProducer", "open already", "one `async with` at a time; several tasks may use it inside")
        backend = await Backend.open(self._settings, name="flowq:producer", connections=4, with_storage=False)
        if self._must_fsync:
            try:
                backend.refuse_without_fsync()
            except DurabilityUnavailable:
                await backend.close()
                raise
        self._opened = Opened(backend, Feed(backend.store.connection, backend.store.keys))
        bound_reader.set(StorageReader(backend))
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Closes the connections; flows go on."""
        await self.close()

    async def close(self) -> None:
        """Closes the connections; flows go on."""
        if self._opened is not None:
            opened, self._opened = self._opened, None
            await opened.feed.close()
            await opened.backend.close()

    @overload
    def flow(self, id: str, pipeline: Pipeline[..., R]) -> FlowHandle[R]: ...
    @overload
    def flow(self, id: str, pipeline: None = None) -> FlowHandle[Any]: ...
    def flow(self, id: str, pipeline: Pipeline[..., Any] | None = None) -> FlowHandle[Any]:
        """A handle for a flow by its id; with its pipeline, a typed one.

        Does not ask the server: that there is no such flow is seen when the handle is used, and that it is one of another
        pipeline by `result()`.

        Raises:
            InvalidValue: no flow can have this id, or `pipeline` is none.
        """
        self._while_open()
        if pipeline is None:
            return FlowHandle(self._while_open, check_flow_id(id), Any)
        _refuse_no_pipeline(pipeline)
        return FlowHandle(self._while_open, check_flow_id(id), pipeline.signature.result, pipeline=pipeline.name)

    # ── for the parts ────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _open(self) -> Backend:
        return self._while_open().backend

    def _while_open(self) -> Opened:
        if self._opened is None:
            raise InvalidValue(
                "FlowProducer", "not open", "it and its flows to be used in `async with FlowProducer(…) as producer:`"
            )
        return self._opened


def _refuse_no_pipeline(pipeline: object) -> None:
    if not isinstance(pipeline, Pipeline):
        raise InvalidValue("pipeline", pipeline, "the pipeline itself, such as short_video, or nothing")
