"""`FlowProducer`: adds flows, and finds, follows and steers those that are there."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from contextlib import aclosing
from os import PathLike
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, Unpack, cast, overload

from flowq.engine.client.adding import Flows, added, batches
from flowq.engine.client.fleet import FleetView
from flowq.engine.client.many import ManyFlows
from flowq.engine.client.pausing import Pausing
from flowq.engine.client.scheduling import Scheduling
from flowq.engine.client.search import Searching
from flowq.engine.client.sharing import Sharing
from flowq.engine.flow.handle import FlowHandle
from flowq.errors import InvalidValue, StorageNotConfigured
from flowq.model.artifact import Artifact
from flowq.model.finding import Finding
from flowq.model.spec import AddOptions, FlowOptions, FlowSpec
from flowq.pipeline import Node, to_spec
from flowq.settings import Settings

if TYPE_CHECKING:
    from flowq.artifacts.storage import Storage

R = TypeVar("R")

# Flows of one submit call: large enough to make the call's cost small, small enough that the script stays below 10 ms.
BULK = 250
_DURABILITIES = (None, "fsync")


class FlowProducer(Searching, ManyFlows, Pausing, Scheduling, Sharing, FleetView):
    """A client that adds flows to a server and steers them. Use it with `async with`; one per process is enough.

    Args:
        url: `redis://…`, `rediss://…`, `unix://…`, `redis+cluster://…`, `redis+sentinel://…`, or `embedded:` for a server that
            flowq runs itself; None: `FLOWQ_URL`, the configuration file, or the project's own `.flowq/`.
        namespace: separates applications on one server; `flowq` by default.
        artifacts: where artifacts are kept: `s3://bucket/prefix` or `file:/directory`; None: `FLOWQ_ARTIFACTS`, or what the
            embedded server offers.
        durability: `"fsync"`: `add` returns only what the server has written to disk; refused before anything is written
            if the server can't promise that.
        settings: settings that were loaded already; the arguments above override them.

    Raises:
        ServerNotConfigured: no URL was found anywhere.
        DurabilityUnavailable: on entering, see `durability`.
        ServerError, EmbeddedError: on entering: the server can't be used.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        namespace: str | None = None,
        artifacts: str | None = None,
        durability: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        if durability not in _DURABILITIES:
            raise InvalidValue("durability", durability, "None or 'fsync'")
        base = settings or Settings.load()
        given = Settings(
            url=base.url if url is None else url,
            namespace=base.namespace if namespace is None else namespace,
            artifacts=base.artifacts if artifacts is None else artifacts,
            worker=base.worker,
            keep=base.keep,
        )
        super().__init__(given, must_fsync=durability == "fsync")

    @property
    def storage(self) -> Storage:
        """Where artifacts are kept. An embedded S3 server is started for the first who asks, which takes 2 s.

        Raises:
            StorageNotConfigured, EmbeddedError.
        """
        return _configured(self._open.storage)

    @property
    def notice(self) -> str:
        """A sentence for people about what stands in for the artifact storage, once that was used; may be empty."""
        return self._open.notice

    async def doctor(self) -> Sequence[Finding]:
        """Examines server and storage; each finding with its fix."""
        from flowq.engine.client.doctor import examine

        return await examine(self._open)

    # ── adding ───────────────────────────────────────────────────────────────────────────────────────────────────

    @overload
    async def add(self, flow: FlowSpec[R], **options: Unpack[AddOptions]) -> FlowHandle[R]: ...
    @overload
    async def add(self, flow: Node | Mapping[str, Any], **options: Unpack[AddOptions]) -> FlowHandle[Any]: ...
    async def add(self, flow: FlowSpec[Any] | Node | Mapping[str, Any], **options: Unpack[AddOptions]) -> FlowHandle[Any]:
        """Adds a flow, all or nothing.

        Adding the same pipeline with the same inputs under the same id again gives the flow that is there, so a call whose
        outcome is unknown may simply be made again.

        Args:
            flow: what a pipeline call returns; a `Node`; or the same as a mapping.
            options: its id, tenant, tags, priority, delay, start_at, deadline and dedup: see `AddOptions`.

        Raises:
            FlowConflict: the id is taken by a flow of another pipeline or with other inputs; says which.
            NotAFlow, InvalidValue, DefinitionError, ValueNotStorable, ValueTooLarge: before anything is written.
            ServerError: the server can't be used.
        """
        spec: FlowSpec[Any] = to_spec(flow)
        if (given := FlowOptions.checked(**options)) != FlowOptions():
            spec = spec.optioned(given)
        (handle,) = await self._submit([spec])
        return handle

    async def add_bulk(self, flows: Flows[R]) -> Sequence[FlowHandle[R]]:
        """Adds many flows, each all or nothing, in calls of 250; takes any iterable, also an async one.

        Give ids, tenants, tags and priorities with `spec.with_options(...)`. With ids the whole `add_bulk` may be made again
        after any error: what was added before is given back as it is, and nothing is added twice. Of the flows it never holds
        more than one call's, but it returns a handle for each: see `add_many` for more of them than memory has room for.

        Raises:
            as `add`, for the first flow to refuse; says its position, counted from 1. All before it are added. Flows in conflict
            are found 250 at a time: all others of these are added. If the server failed, the 250 of the call may be added.
        """
        return [handle async for handle in self.add_many(flows)]

    def add_many(self, flows: Flows[R]) -> AsyncIterator[FlowHandle[R]]:
        """Adds flows as `add_bulk` does, and gives the handle of each as soon as it is added: bounded in memory, however many.

        Flows are added as the loop goes on: if it is left, what was not in the same call as the last handle is not added, nor
        taken from the iterable. A call is made for 250 flows, fewer if they are large, so that a source which gives one now and
        then is better served by `add`.

        Raises:
            as `add_bulk`; whatever the iterable raises, after what it gave before is added.
        """
        _refuse_one_flow(flows)
        return self._added_one_by_one(flows)

    async def upload(
        self, source: str | PathLike[str] | BinaryIO | bytes, name: str | None = None, *, content_type: str | None = None
    ) -> Artifact:
        """Brings data into artifact storage, to be passed to a pipeline.

        Args:
            source: a path, an open binary file, or bytes.
            name: the artifact's name; the file's by default.
            content_type: its media type; by the name's suffix by default.

        Raises:
            StorageNotConfigured, StorageError, EmbeddedError.
        """
        storage = _configured(await self._open.reach_storage())
        return await storage.upload(f"uploads/{secrets.token_hex(8)}", source, name, content_type=content_type)  # type: ignore[arg-type]

    # ── private ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _added_one_by_one(self, flows: Flows[R]) -> AsyncIterator[FlowHandle[R]]:
        async with aclosing(batches(flows, BULK)) as calls:
            async for batch in calls:
                for handle in await self._submit(batch):
                    yield handle

    async def _submit(self, specs: Sequence[FlowSpec[Any]]) -> Sequence[FlowHandle[Any]]:
        return [
            FlowHandle(self._while_open, one.flow_id, spec.result_type, addition=one.addition)
            for spec, one in zip(specs, await added(self._open.store, specs), strict=True)
        ]


def _configured(storage: Storage | None) -> Storage:
    if storage is None:
        raise StorageNotConfigured("artifact storage is needed")
    return storage


def _refuse_one_flow(flows: object) -> None:
    if isinstance(flows, Mapping | str) or not isinstance(flows, Iterable | AsyncIterable):
        raise InvalidValue("flows", cast("Any", flows), "a list or another iterable of flows; one flow is added with `add`")
