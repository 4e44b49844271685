"""Reads items of maps: a page of them, all, or one by its name."""

from __future__ import annotations

from collections.abc import Iterable

from flowq.engine.flow.again import stages_named
from flowq.errors import InvalidValue, StageNotFound
from flowq.model.items import item_named
from flowq.model.snapshot import StageSnapshot
from flowq.store.snapshots import Snapshots
from flowq.store.store import Store
from flowq.store.views import Views
from flowq.store.wire import Group

_LIMIT_MAX = 10_000


def every_item(_: str, group: Group) -> Iterable[int]:
    """For snapshots: all items are listed."""
    return range(group.count)


async def item_page(store: Store, flow_id: str, stage: str, start: int, limit: int) -> tuple[StageSnapshot, ...]:
    """Items of a map from a number on; empty: there are no more, or the list is not known yet.

    Raises:
        FlowNotFound: there is none of this id.
        StageNotFound: no stage is called so.
        InvalidValue: `start` or `limit` is out of range.
    """
    if type(start) is not int or start < 0:
        raise InvalidValue("start", start, "a number from 0 on")
    if type(limit) is not int or not 1 <= limit <= _LIMIT_MAX:
        raise InvalidValue("limit", limit, f"a number from 1 to {_LIMIT_MAX:,}")
    snapshots = Snapshots(store, Views(store))
    snapshot = await snapshots.snapshot(flow_id, lambda name, _: range(start, start + limit) if name == stage else ())
    known = next((known for known in snapshot.graph if known.name == stage), None)
    if known is None:
        raise StageNotFound(flow_id, stage, [known.name for known in snapshot.graph])
    return known.items.listed if known.items is not None else ()


async def stages_or_item(store: Store, flow_id: str, name: str) -> list[StageSnapshot]:
    """The stages that a name or pattern means, or the item.

    Raises:
        FlowNotFound: there is none of this id.
        StageNotFound: nothing is called so.
    """
    snapshot = await Snapshots(store, Views(store)).snapshot(flow_id)
    stage, number = item_named(name) or ("", 0)
    if any(known.name == stage and known.items is not None for known in snapshot.graph):
        return list(await item_page(store, flow_id, stage, number, 1)) or stages_named(snapshot, name)
    return stages_named(snapshot, name)
