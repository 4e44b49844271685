"""Finds flows that are there: the part of `FlowProducer` that tells which one people mean, and which fit what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Unpack

from flowq.engine.client.client import Client
from flowq.engine.duties.removal import archive_of
from flowq.engine.flow.handle import FlowHandle
from flowq.errors import AmbiguousFlowId, FlowNotFound, InvalidValue
from flowq.model.artifact import Artifact
from flowq.model.filter import FilterOptions, FlowFilter
from flowq.model.names import check_flow_id, root_id
from flowq.model.snapshot import FlowSummary
from flowq.model.spec import LATEST
from flowq.store.finder import Finder, Place
from flowq.store.schedules import Schedules
from flowq.store.views import Views

# How many ids of each index are held against a beginning.
_SEARCHED_MAX = 20_000


class Searching(Client):
    """Finds flows."""

    async def find(self, name: str) -> str:
        """The id that `name` means: itself, if there is such a flow, or somebody has run its schedule, and perhaps cancelled
        the flow before it was made; the newest flow's, for `latest`; or the only one that begins with it.

        Raises:
            FlowNotFound, AmbiguousFlowId.
        """
        views = Views(self._open.store)
        if name == LATEST:
            newest = await self.list(limit=1)
            if not newest:
                raise FlowNotFound(name)
            return newest[0].id
        if await views.exists(check_flow_id(name)) or await Schedules(self._open.store).is_known(name):
            return name
        return await _beginning_with(views, name, archive_of(self._open.settings))

    async def list(
        self,
        *,
        state: str | None = None,
        limit: int = 50,
        after: str | None = None,
        artifact: str | Artifact | None = None,
        **options: Unpack[FilterOptions],
    ) -> Sequence[FlowSummary]:
        """Flows, the newest first: the last to be added stands at the top. As fast with a million flows as with ten.

        Args:
            state: only those in this state.
            limit: how many at most.
            after: go on behind this flow: the id of the last one of the page before.
            artifact: only the flow that wrote this artifact, given itself or by its key or URL.
            options: pipeline, tenant, tag, since_ms, until_ms, search and cause: see `FilterOptions`.

        Raises:
            InvalidValue: no flow can be so, or a number is out of range.
            FlowNotFound: the flow to go on behind is gone.
        """
        if type(limit) is not int or limit < 1:
            raise InvalidValue("limit", limit, "a whole number from 1 on")
        wanted = FlowFilter.checked(state=state, **options)
        views = Views(self._open.store)
        place = None if after is None else Place((await views.head(check_flow_id(after, "after"))).created_at, after)
        if artifact is not None:
            return [flow for flow in await views.summaries([self.flow_of(artifact).id]) if wanted.fits(flow)]
        return await Finder(self._open.store, views).list(wanted, limit, place)

    def flow_of(self, artifact: str | Artifact) -> FlowHandle[Any]:
        """The flow that wrote an artifact, by the artifact or its key or URL: both hold the flow's id. Asks nobody.

        Raises:
            InvalidValue: no stage of a flow has written to this key.
        """
        from flowq.artifacts.keys import flow_id_in

        key = artifact.key if isinstance(artifact, Artifact) else artifact
        return self.flow(flow_id_in(key))


async def _beginning_with(views: Views, name: str, archive: str) -> str:
    """The only id that begins so; `archive`: where flows that were removed are."""
    found: list[str] = []
    is_hooks = root_id(name) != name  # what runs after the end of a flow begins with that flow's id
    searched = 0
    for pages in views.indexes():
        async for page in pages:
            for flow_id in page:
                is_meant = flow_id.startswith(name) and (is_hooks or root_id(flow_id) == flow_id)
                # What was pruned by hand is still listed among those that completed in its hour.
                if is_meant and len(found) <= 5 and await views.exists(flow_id):
                    found.append(flow_id)
            searched += len(page)
            if len(found) > 5 or searched > _SEARCHED_MAX:
                break
    if not found:
        raise FlowNotFound(name, archive)
    if len(set(found)) > 1:
        raise AmbiguousFlowId(name, sorted(set(found)))
    return found[0]
