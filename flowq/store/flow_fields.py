"""Reads the fields of a flow that a snapshot is made of."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec

from flowq.model.items import item_index
from flowq.model.names import worker_of
from flowq.model.plan import Plan
from flowq.model.snapshot import AttemptSnapshot
from flowq.store.item_snapshots import item_state
from flowq.store.remembered import waits_of
from flowq.store.store import Store
from flowq.store.views import record_decoder
from flowq.store.wire import Group, Record, group_decoder, history_decoder

# Larger flows are read in pages, so that no command holds the server up.
_WHOLE_STAGES_MAX = 500
_PAGE_FIELDS = 1_500
_OF_STAGE = ("", "r", "e", "h", "g", "a", "u", "z", "c")
_OF_FLOW = ("m", "out", "b", "w", "D", "q")

# Which items of a map to list: asked with its name and its group.
Listed = Callable[[str, Group], Iterable[int]]
# Among so many first items those are looked for that are suspended, a page at a time, and so many of them are listed.
LOOKED_AT_MAX = 10_000
_LOOKED_AT_ONCE = 1_000
_SUSPENDED_LISTED_MAX = 10
# A result with more elements of maps is not read.
_RESULT_ITEMS_MAX = 100


class Known(NamedTuple):
    """A map that knows its list: its group, the indexes of the items to list, how many were found suspended, and how many behind
    those that were looked at may be, too."""

    group: Group
    listed: tuple[int, ...]
    suspended: int = 0
    beyond: int = 0


# By the map's index.
Items = dict[int, Known]


async def fields_of(store: Store, key: str, plan: Plan) -> dict[str, bytes]:
    """The fields of a flow and of its stages, those of items left out."""
    maps = [index for index, stage in enumerate(plan.stages) if stage.mapping is not None]
    if len(plan.stages) <= _WHOLE_STAGES_MAX and not maps:
        found: dict[bytes, bytes] = await store.connection.command("HGETALL", key)
        return {name.decode(): value for name, value in found.items()}
    more = (*_OF_FLOW, *(f"G{index}" for index in maps))
    return await _of_stages(store, key, range(len(plan.stages)), more)


async def items_of(store: Store, key: str, plan: Plan, fields: dict[str, bytes], listed: Listed | None) -> Items:
    """The maps that know their lists, with the items to list, whose fields are added to `fields`.

    Without `listed` those are listed that failed first, and some that are suspended: first those that wait for a signal. The
    results of items are added, too, that the flow's own result is made of, if they are few.
    """
    found: Items = {}
    for index, stage in enumerate(plan.stages):
        if stage.mapping is not None and (data := fields.get(f"G{index}")) is not None:
            group = group_decoder.decode(data)
            suspended, beyond = await _suspended(store, key, index, group) if _is_open(fields, index) else ([], 0)
            shown = group.first_failed if listed is None else listed(stage.name, group)
            indexes = [item_index(index, number) for number in shown if number < group.count]
            if listed is None:
                indexes += await _worth_listing(store, key, suspended)
            found[index] = Known(group, tuple(indexes), len(suspended), beyond)
            fields |= await _of_stages(store, key, indexes)
    await _add_results(store, key, plan, fields, found)
    return found


async def _add_results(store: Store, key: str, plan: Plan, fields: dict[str, bytes], items: Items) -> None:
    ended = {at for binding in plan.output if (at := binding.child) in items and not _is_open(fields, at)}
    if not unread_items(plan, items):
        names = [f"r{item_index(index, number)}" for index in ended for number in range(items[index].group.count)]
        fields |= await _read(store, key, names)


def unread_items(plan: Plan, items: Items) -> int:
    """How many elements of maps the flow's result has, if they are too many to be read; else 0."""
    groups = [items[index].group for index in {binding.child for binding in plan.output} if index in items]
    return sum(group.done for group in groups) if sum(group.count for group in groups) > _RESULT_ITEMS_MAX else 0


def _is_open(fields: dict[str, bytes], index: int) -> bool:
    record = _record(fields.get(str(index)))
    return record is not None and record.state == "u"


async def _suspended(store: Store, key: str, stage: int, group: Group) -> tuple[list[int], int]:
    """The indexes of suspended items, looked for where there may be some, and how many may be behind those."""
    busy, idle, suspended = group.done + group.failed + group.running, 0, list[int]()
    for start in range(0, min(group.handed_out, LOOKED_AT_MAX), _LOOKED_AT_ONCE):
        if busy + idle >= group.handed_out:
            return suspended, 0
        indexes = range(item_index(stage, start), item_index(stage, min(group.handed_out, start + _LOOKED_AT_ONCE)))
        found = await _read(store, key, [str(index) for index in indexes])
        if not found:
            return suspended, 0
        states = {index: item_state(_record(found.get(str(index))), group, is_open=True) for index in indexes}
        suspended += [index for index, state in states.items() if state == "suspended"]
        idle += sum(state in ("suspended", "scheduled", "ready") for state in states.values())
    return suspended, max(0, await _begun(store, key, stage, group) - busy - idle)


async def _begun(store: Store, key: str, stage: int, group: Group) -> int:
    """How many items have begun, which they do in their order; at least those that were looked at."""
    low, high = min(group.handed_out, LOOKED_AT_MAX), group.handed_out
    while low < high:
        middle = (low + high) // 2
        has_begun = await store.connection.command("HEXISTS", key, item_index(stage, middle))
        low, high = (middle + 1, high) if has_begun else (low, middle)
    return low


def _record(data: bytes | None) -> Record | None:
    try:
        return None if data is None else record_decoder.decode(data)
    except msgspec.DecodeError:  # told when it is looked at itself
        return None


async def _worth_listing(store: Store, key: str, suspended: Sequence[int]) -> list[int]:
    for_signals: set[int] = set()
    for start in range(0, len(suspended), _LOOKED_AT_ONCE):
        page = suspended[start : start + _LOOKED_AT_ONCE]
        waits = await _read(store, key, [f"z{index}" for index in page])
        for_signals |= {index for index in page if any(wait.kind == "signal" for wait, _ in waits_of(waits.get(f"z{index}")))}
        if len(for_signals) >= _SUSPENDED_LISTED_MAX:
            break
    return sorted(sorted(suspended, key=lambda index: index not in for_signals)[:_SUSPENDED_LISTED_MAX])


def history_of(data: bytes | None) -> tuple[AttemptSnapshot, ...]:
    """The earlier runs of a stage."""
    return tuple(
        AttemptSnapshot(one.attempt, one.outcome, worker_of(one.worker), one.started_at, one.ran / 1000, one.cause)
        for one in (history_decoder.decode(data) if data else ())
    )


async def _of_stages(store: Store, key: str, indexes: Sequence[int], more: Sequence[str] = ()) -> dict[str, bytes]:
    return await _read(store, key, [*more, *(f"{kind}{index}" for index in indexes for kind in _OF_STAGE)])


async def _read(store: Store, key: str, names: Sequence[str]) -> dict[str, bytes]:
    fields: dict[str, bytes] = {}
    for start in range(0, len(names), _PAGE_FIELDS):
        page = names[start : start + _PAGE_FIELDS]
        values = await store.connection.command("HMGET", key, *page)
        fields |= {name: value for name, value in zip(page, values, strict=True) if value is not None}
    return fields
