"""Children's results as they are stored, fetched for who uses them: a map's result is a list that stands in no field, so it
is read item by item here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import msgspec

from flowq.artifacts.spill import is_spilled
from flowq.errors import CorruptState
from flowq.model.failure import is_failure, unpacked
from flowq.model.items import LIST
from flowq.model.plan import Binding
from flowq.model.values import fill
from flowq.store.maps import item_results
from flowq.store.store import Store

# Spilled results that are fetched from artifact storage at the same time.
_AT_ONCE = 16

_raw_arguments = msgspec.msgpack.Decoder(dict[str, msgspec.Raw])

Unspill = Callable[[bytes], Awaitable[bytes]]


class Gathered(msgspec.Struct, frozen=True):
    """Results as they are packed, so that each use makes objects of its own.

    Attributes:
        results: child → its result; LIST where `lists` has it.
        lists: map → the results of its items.
    """

    results: dict[int, bytes]
    lists: dict[int, list[bytes]]

    def filled(self, target: Any, bindings: Sequence[Binding]) -> Any:
        """`target` with the results in their places."""
        lists = {child: [unpacked(data) for data in items] for child, items in self.lists.items()} if self.lists else {}
        results = {child: lists[child] if data == LIST else unpacked(data) for child, data in self.results.items()}
        return fill(target, bindings, results, lists)


async def gathered(
    store: Store,
    flow_id: str,
    bindings: Sequence[Binding],
    packed: Mapping[int, bytes],
    unspill: Unspill,
    runs: tuple[int, int] | None = None,
) -> Gathered:
    """All that these bindings need.

    Args:
        store: for the items of maps.
        flow_id: the flow.
        bindings: which results go where.
        packed: child → its result as it is stored.
        unspill: fetches the value that a reference stands for.
        runs: an earlier run to read, and the latest; None: the latest.

    Raises:
        CorruptState: a result is missing.
    """
    results: dict[int, bytes] = {}
    lists: dict[int, list[bytes]] = {}
    for binding in bindings:
        child = binding.child
        if child in results:
            continue
        data = packed.get(child)
        if not data:
            raise CorruptState(flow_id, f"result of stage {child}", "it is missing")
        if data == LIST or (is_failure(data) and any(one.child == child and one.on_failure == "items" for one in bindings)):
            items = await item_results(store, flow_id, child, *(runs or ()))
            lists[child] = await _all_whole(items, unspill)
        results[child] = await unspill(data) if is_spilled(data) else data
    return Gathered(results, lists)


async def _all_whole(items: list[bytes], unspill: Unspill) -> list[bytes]:
    spilled = [position for position, data in enumerate(items) if is_spilled(data)]
    for start in range(0, len(spilled), _AT_ONCE):
        page = spilled[start : start + _AT_ONCE]
        for position, data in zip(page, await asyncio.gather(*(unspill(items[position]) for position in page)), strict=True):
            items[position] = data
    return items


async def told(literals: bytes, unspill: Unspill) -> dict[str, Any]:
    """The arguments of a hook: what it is told may be a result that lies in artifact storage."""
    arguments = {name: bytes(value) for name, value in _raw_arguments.decode(literals).items()}
    return {name: unpacked(await unspill(value) if is_spilled(value) else value) for name, value in arguments.items()}
