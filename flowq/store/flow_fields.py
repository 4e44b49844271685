"""Reads the fields of a flow that a snapshot is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from flowq.model.items import item_index
from flowq.model.names import worker_of
from flowq.model.plan import Plan
from flowq.model.snapshot import AttemptSnapshot
from flowq.store.store import Store
from flowq.store.wire import Group, group_decoder, history_decoder

# Larger flows are read in pages, so that no command holds the server up.
_WHOLE_STAGES_MAX = 500
_PAGE_FIELDS = 1_500
_OF_STAGE = ("", "r", "e", "h", "g", "a", "u", "z", "c")
_OF_FLOW = ("m", "out", "b", "w", "D", "q")

# Which items of a map to list: asked with its name and its group.
Listed = Callable[[str, Group], Iterable[int]]
# Map → its group and the indexes of the items to list.
Items = dict[int, tuple[Group, tuple[int, ...]]]


async def fields_of(store: Store, key: str, plan: Plan) -> dict[str, bytes]:
    """The fields of a flow and of its stages, those of items left out."""
    maps = [index for index, stage in enumerate(plan.stages) if stage.mapping is not None]
    if len(plan.stages) <= _WHOLE_STAGES_MAX and not maps:
        found: dict[bytes, bytes] = await store.connection.command("HGETALL", key)
        return {name.decode(): value for name, value in found.items()}
    more = (*_OF_FLOW, *(f"G{index}" for index in maps))
    return await _of_stages(store, key, range(len(plan.stages)), more)


async def items_of(store: Store, key: str, plan: Plan, fields: dict[str, bytes], listed: Listed) -> Items:
    """The maps that know their lists, with the items to list, whose fields are added to `fields`."""
    found: Items = {}
    for index, stage in enumerate(plan.stages):
        if stage.mapping is not None and (data := fields.get(f"G{index}")) is not None:
            group = group_decoder.decode(data)
            numbers = (number for number in listed(stage.name, group) if number < group.count)
            found[index] = (group, tuple(item_index(index, number) for number in numbers))
            fields |= await _of_stages(store, key, found[index][1])
    return found


def history_of(data: bytes | None) -> tuple[AttemptSnapshot, ...]:
    """The earlier runs of a stage."""
    return tuple(
        AttemptSnapshot(one.attempt, one.outcome, worker_of(one.worker), one.started_at, one.ran / 1000, one.cause)
        for one in (history_decoder.decode(data) if data else ())
    )


async def _of_stages(store: Store, key: str, indexes: Sequence[int], more: Sequence[str] = ()) -> dict[str, bytes]:
    names = [*more, *(f"{kind}{index}" for index in indexes for kind in _OF_STAGE)]
    fields: dict[str, bytes] = {}
    for start in range(0, len(names), _PAGE_FIELDS):
        page = names[start : start + _PAGE_FIELDS]
        values = await store.connection.command("HMGET", key, *page)
        fields |= {name: value for name, value in zip(page, values, strict=True) if value is not None}
    return fields
