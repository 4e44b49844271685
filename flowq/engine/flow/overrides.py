"""Other arguments for stages of a flow that is there already: what `flow.retry(overrides=…)` changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from flowq.engine.flow.as_typed import AsTyped, with_marks
from flowq.errors import InvalidValue
from flowq.model.items import is_item, stage_of
from flowq.model.plan import CONDITION, TYPED, Plan, StagePlan
from flowq.model.states import FINAL
from flowq.model.values import packed
from flowq.pipeline import find_stage
from flowq.pipeline.holes import packed_apart
from flowq.pipeline.signature import Signature
from flowq.store.store import Store

_OURS = {CONDITION, TYPED}


def checked_overrides(overrides: object) -> Mapping[str, Any]:
    """The overrides of a retry, none for None.

    Raises:
        InvalidValue: it is no dict with names.
    """
    if overrides is None:
        return {}
    if not isinstance(overrides, Mapping) or not all(isinstance(name, str) for name in cast("Mapping[object, Any]", overrides)):
        raise InvalidValue("overrides", cast("object", overrides), 'a dict such as {"height": 480}')
    return cast("Mapping[str, Any]", overrides)


def refuse_unused(overrides: Mapping[str, Any], flow_id: str, state: str) -> None:
    """Refuses overrides when no stage runs again that could have them, and says if that is because the flow has not ended."""
    if overrides:
        stages = "stages to give them to: those that failed, or that from_stage names"
        expected = stages if state in FINAL else f"a flow that has ended: {flow_id!r} is {state}"
        raise InvalidValue("overrides", ", ".join(sorted(overrides)), expected)


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
        stage, name_of_it = plan.stages[stage_of(index)], plan.name_of(index)
        bound = {binding.into[0] for binding in stage.bindings if not is_item(index)}
        given = {name: value for name, value in overrides.items() if name in literals and name not in {*bound, *_OURS}}
        if not given:
            continue
        signature = _signature_of(stage, index)
        mine = {
            name: value.meant(name, literals, signature) if isinstance(value, AsTyped) else value for name, value in given.items()
        }
        typed: dict[str, Any] = {}
        if signature is not None:
            typed = {name: value for name, value in mine.items() if name in signature.names}
            signature.check(typed)
        for name in mine.keys() - typed.keys():
            if not isinstance(mine[name], AsTyped):
                _refuse_another_kind(f"{name_of_it}.{name}", mine[name], literals[name])
        changed[index] = packed_apart(with_marks(literals, mine), name_of_it)[0]
        missing -= mine.keys()
    if missing:
        known_names = sorted({name for literals in found.values() for name in literals} - _OURS)
        raise InvalidValue(
            "overrides",
            ", ".join(sorted(missing)),
            f"arguments of the stages that run again, of those not filled by other stages: {', '.join(known_names) or 'none'}",
        )
    return changed


def _signature_of(stage: StagePlan, index: int) -> Signature | None:
    """What the stage or item with this index takes; None: its code is not here."""
    if (known := find_stage(stage.stage)) is None:
        return None
    mapping = None if is_item(index) else stage.mapping
    return known.signature if mapping is None else known.signature.mapped(mapping.argument)


def _refuse_another_kind(field: str, value: Any, stored: Any) -> None:
    """Where the stage's code is not here, what is stored tells what it takes; None tells nothing."""
    new, old = _kind(msgspec.msgpack.decode(packed(value, field, "value"))), _kind(stored)
    if "null" not in (new, old) and new != old:
        raise InvalidValue(field, value, f"{old}, as it is stored")


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    kinds: dict[type[Any], str] = {str: "text", list: "a list", dict: "an object", type(None): "null"}
    return kinds.get(cast("type[Any]", type(value)), type(value).__name__)
