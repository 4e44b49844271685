"""Says in the reasons of stages that wait for other flows which of these are paused: they wait until somebody resumes them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from msgspec import structs

from flowq.model.snapshot import StageSnapshot
from flowq.store.views import FLOW_STATES, Views

_CODES = ("spawned", "cache_pending", "other_flow")
# Of so many flows it is looked; of these so many are named.
_LOOKED_AT_MAX, _NAMED_MAX = 200, 3


async def telling_of_pauses(views: Views, graph: tuple[StageSnapshot, ...]) -> tuple[StageSnapshot, ...]:
    """The same stages; their reasons name the paused ones of the flows that they wait for."""
    flows = list(dict.fromkeys(_waited_for(graph)))[:_LOOKED_AT_MAX]
    if not flows:
        return graph
    heads = await views.heads(flows)
    paused = {flow for flow, known in zip(flows, heads, strict=True) if known and FLOW_STATES.get(known[1].status) == "paused"}
    return tuple(_told(stage, paused) for stage in graph) if paused else graph


def _waited_for(graph: Iterable[StageSnapshot]) -> Iterator[str]:
    for stage in graph:
        if stage.reason is not None and stage.reason.code in _CODES:
            yield from stage.reason.on
        if stage.items is not None:
            yield from _waited_for(stage.items.listed)


def _told(stage: StageSnapshot, paused: Collection[str]) -> StageSnapshot:
    if stage.items is not None:
        listed = tuple(_told(item, paused) for item in stage.items.listed)
        stage = structs.replace(stage, items=structs.replace(stage.items, listed=listed))
    reason = stage.reason
    if reason is None or reason.code not in _CODES or not (named := [flow for flow in reason.on if flow in paused]):
        return stage
    more = f" and {len(named) - _NAMED_MAX} more" if len(named) > _NAMED_MAX else ""
    shown = ", ".join(named[:_NAMED_MAX]) + more
    told = f"flow {shown} is paused" if len(named) == 1 else f"flows {shown} are paused"
    return structs.replace(stage, reason=structs.replace(reason, sentence=f"{reason.sentence}; {told}"))
