"""What the executor does of a map beside calling functions: it makes items of the list, and gives each item what all share."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from typing import Any, cast

import msgspec

from flowq.engine.flow.gathering import Gathered
from flowq.errors import InvalidValue, ValueTooLarge
from flowq.model.failure import StageFailure, unpacked
from flowq.model.items import ITEMS, LIST, Mapped, is_item, item_name, stage_of
from flowq.model.outcome import Claim, Complete, Expand, Outcome, opaque
from flowq.model.plan import CONDITION, TYPED, Binding, StagePlan
from flowq.model.values import INPUT_BYTES_MAX
from flowq.store.maps import put_items
from flowq.store.store import Store
from flowq.store.stored_plan import StoredPlan

# Items are written so many at first, then as many as the server says, and never much more than so many bytes at a time.
_PAGE_ITEMS = 100
_PAGE_BYTES = 1_000_000
# Groups of items whose shared arguments are kept; a process runs items of a few at a time.
_SHARED_KEPT = 32

_pack = msgspec.msgpack.Encoder().encode
_EMPTY = _pack({})


async def expanded(store: Store, claim: Claim, stage: StagePlan, plan: StoredPlan, mapping: Mapped, items: object) -> Outcome:
    """Writes the items of a claimed map and gives its outcome: it is expanded, or has completed if there are none.

    Raises:
        InvalidValue: it is no list, or one too long, or too short for what is needed.
        ValueTooLarge: an element takes more than 65,536 bytes.
    """
    where = f"{stage.name}.{mapping.argument}"
    if not isinstance(items, list):
        raise InvalidValue(where, items, "a list, of which each element becomes an item")
    elements = cast("list[Any]", items)
    if len(elements) >= ITEMS:
        raise InvalidValue(where, f"a list of {len(elements):,}", f"a list of less than {ITEMS:,}")
    if mapping.need > len(elements):
        raise InvalidValue(f"need of {stage.name}", mapping.need, f"at most {len(elements)}: there are no more items")
    if not elements:
        return Complete(*claim.run, opaque(LIST), opaque(b""), plan.releases(claim.index))
    page: list[bytes] = []
    page_bytes, page_items = 0, _PAGE_ITEMS
    for number, element in enumerate(elements):
        packed = _packed(element, mapping.argument)
        if len(packed) > INPUT_BYTES_MAX:
            raise ValueTooLarge(where, f"element {number}", len(packed), INPUT_BYTES_MAX, "write it to an artifact")
        page.append(packed)
        page_bytes += len(packed)
        is_last = number + 1 == len(elements)
        if is_last or len(page) == page_items or page_bytes >= _PAGE_BYTES:
            page_items = await put_items(store, claim, number + 1 - len(page), page)
            if not page_items:
                break  # another run holds the stage, which is what this outcome will be told
            page, page_bytes = [], 0
    return Expand(*claim.run, len(elements), mapping.need or len(elements), mapping.at_once, plan.priority(claim.index))


def _packed(element: Any, argument: str) -> bytes:
    value = element.packed() if isinstance(element, StageFailure) else _pack(element)
    return b"\x81" + _pack(argument) + value


class Shared(msgspec.Struct, frozen=True):
    """The arguments that all items of a map have in common.

    Attributes:
        literals: packed.
        bindings: which results go where.
        gathered: the results.
    """

    literals: bytes
    bindings: tuple[Binding, ...]
    gathered: Gathered

    def arguments(self, own: bytes) -> dict[str, Any]:
        """The arguments of an item, whose own are packed here."""
        mine = unpacked(own)
        if not self.bindings and self.literals == _EMPTY:
            return mine
        shared = self.gathered.filled(unpacked(self.literals), self.bindings)
        if TYPED in shared and TYPED in mine:
            mine[TYPED] += shared[TYPED]
        return shared | mine


def shared_part(literals: bytes, stage: StagePlan) -> tuple[bytes, tuple[Binding, ...]]:
    """What of a map's literals and bindings its items share: all but the list, and the condition."""
    own = (stage.mapping.argument if stage.mapping is not None else "", CONDITION)
    values: dict[str, Any] = msgspec.msgpack.decode(literals) if literals else {}
    kept = {name: value for name, value in values.items() if name not in own}
    return _pack(kept), tuple(binding for binding in stage.bindings if binding.into[0] not in own)


class SharedArguments:
    """Reads the shared arguments of each map once, and keeps those that were used last."""

    def __init__(self, read: Callable[[str, int, StagePlan], Awaitable[Shared]]) -> None:
        self._read = read
        self._known: OrderedDict[tuple[str, int, int], asyncio.Future[Shared]] = OrderedDict()

    async def of(self, claim: Claim, stage: StagePlan) -> Shared:
        """Those of a claimed item."""
        # Opened again, say by a retry with other arguments, it is another.
        key = (claim.flow_id, stage_of(claim.index), claim.opened_at)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = asyncio.ensure_future(self._read(claim.flow_id, key[1], stage))
            known.add_done_callback(lambda read: self._forget_failure(key, read))
            if len(self._known) > _SHARED_KEPT:
                self._known.popitem(last=False)
        else:
            self._known.move_to_end(key)
        # Shielded: an item that is cancelled while it waits must not end the reading for the others.
        return known.result() if known.done() else await asyncio.shield(known)

    def _forget_failure(self, key: tuple[str, int, int], read: asyncio.Future[Shared]) -> None:
        if (read.cancelled() or read.exception() is not None) and self._known.get(key) is read:
            del self._known[key]


async def loaded(plan: StoredPlan, index: int) -> StagePlan:
    """The stage of a claim: of an item under the item's name, of a map without the limits that its items have."""
    if not plan.holds(stage_of(index)):
        await plan.load(stage_of(index))
    stage = plan.stage(stage_of(index))
    if stage.mapping is None:
        return stage
    if is_item(index):
        return msgspec.structs.replace(stage, name=item_name(stage.name, index), mapping=None)
    return msgspec.structs.replace(stage, timeout_ms=None, stall_ms=None, limits=())
