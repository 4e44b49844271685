"""Other arguments for stages of a flow that is there already: what `flow.retry(overrides=…)` changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flowq.errors import InvalidValue
from flowq.model.items import is_item, stage_of
from flowq.model.plan import Plan
from flowq.pipeline import find_stage
from flowq.pipeline.holes import packed_apart
from flowq.store.store import Store


async def overridden(
    store: Store, flow_id: str, plan: Plan, indexes: Sequence[int], overrides: Mapping[str, Any]
) -> dict[int, bytes]:
    """Stage index → its literal arguments, packed, with other values for some.

    Raises:
        InvalidValue: no stage has an argument of this name, or it is filled with a child's result; or the value does not fit.
        ValueNotStorable, ValueTooLarge: the value can't be stored.
    """
    if not overrides:
        return {}
    found = await store.literals(flow_id, indexes)
    missing = set(overrides)
    changed: dict[int, bytes] = {}
    for index, literals in found.items():
        stage = plan.stages[stage_of(index)]
        bound = {binding.into[0] for binding in stage.bindings if not is_item(index)}
        mine = {name: value for name, value in overrides.items() if name in literals and name not in bound}
        if not mine:
            continue
        if (known := find_stage(stage.stage)) is not None:
            mapping = None if is_item(index) else stage.mapping
            signature = known.signature if mapping is None else known.signature.mapped(mapping.argument)
            signature.check({name: value for name, value in mine.items() if name in signature.names})
        changed[index] = packed_apart(literals | mine, plan.name_of(index))[0]
        missing -= mine.keys()
    if missing:
        known_names = sorted({name for literals in found.values() for name in literals})
        raise InvalidValue(
            "overrides", sorted(missing), f"arguments with values of their own: {', '.join(known_names) or 'none'}"
        )
    return changed
