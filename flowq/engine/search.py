"""Finds flows that are there: the one that people mean with what they typed, and those that fit what is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import msgspec

from flowq.errors import AmbiguousFlowId, FlowNotFound, InvalidValue
from flowq.model.names import check_flow_id
from flowq.model.snapshot import FlowSummary
from flowq.model.spec import LATEST
from flowq.model.states import FlowState
from flowq.store.views import Views

_SEARCHED_MAX = 20_000


class Wanted(msgspec.Struct, frozen=True):
    """Which flows are asked for; see `FlowProducer.list`. None: all."""

    state: str | None = None
    pipeline: str | None = None
    tenant: str | None = None
    tag: str | None = None
    since_ms: int | None = None
    search: str | None = None

    def fits(self, flow: FlowSummary) -> bool:
        """Whether the flow is one of them."""
        return (
            (self.state is None or flow.state == self.state)
            and (self.pipeline is None or flow.pipeline == self.pipeline)
            and (self.tenant is None or flow.tenant == self.tenant)
            and (self.tag is None or self.tag in flow.tags)
            and (self.since_ms is None or flow.created_at >= self.since_ms)
            and (self.search is None or self.search in flow.id)
        )


async def listed(views: Views, wanted: Wanted, limit: int) -> Sequence[FlowSummary]:
    """The flows that are wanted, the newest first, at most `limit`.

    Raises:
        InvalidValue: there is no such state, or a number is out of range.
    """
    _refuse(wanted.state, wanted.since_ms, limit)
    found: dict[str, FlowSummary] = {}
    for pages in views.indexes(wanted.state):
        fitting = searched = 0
        async for page in pages:
            new = {flow.id: flow for flow in await views.summaries(page) if wanted.fits(flow)}
            found |= new
            fitting, searched = fitting + len(new), searched + len(page)
            if fitting >= limit or searched > _SEARCHED_MAX:
                break
    return sorted(found.values(), key=lambda flow: flow.created_at, reverse=True)[:limit]


async def found_id(views: Views, name: str) -> str:
    """The id that `name` means; see `FlowProducer.find`.

    Raises:
        FlowNotFound, AmbiguousFlowId.
    """
    if name == LATEST:
        newest = await listed(views, Wanted(), limit=1)
        if not newest:
            raise FlowNotFound(name)
        return newest[0].id
    if await views.exists(check_flow_id(name)):
        return name
    found: list[str] = []
    searched = 0
    for pages in views.indexes():
        async for page in pages:
            found += [flow_id for flow_id in page if flow_id.startswith(name)]
            searched += len(page)
            if len(found) > 5 or searched > _SEARCHED_MAX:
                break
    if not found:
        raise FlowNotFound(name)
    if len(set(found)) > 1:
        raise AmbiguousFlowId(name, sorted(set(found)))
    return found[0]


def _refuse(state: object, since_ms: object, limit: object) -> None:
    if state is not None and state not in get_args(FlowState):
        raise InvalidValue("state", state, f"one of {', '.join(get_args(FlowState))}")
    if since_ms is not None and type(since_ms) not in (int, float):
        raise InvalidValue("since_ms", since_ms, "milliseconds since 1970")
    if type(limit) is not int or limit < 1:
        raise InvalidValue("limit", limit, "a whole number from 1 on")
