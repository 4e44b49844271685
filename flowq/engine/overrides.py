"""Other arguments for stages of a flow that is there already: what `flow.retry(overrides=…)` changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec

from flowq.errors import InvalidValue
from flowq.model.items import is_item, stage_of
from flowq.model.plan import Plan
from flowq.model.values import packed
from flowq.pipeline import find_stage
from flowq.pipeline.holes import packed_apart
from flowq.store.store import Store


class AsTyped(msgspec.Struct, frozen=True):
    """A value as somebody typed it, who does not know the argument's type: text where text is stored, else JSON.

    Attributes:
        text: what was typed.
    """

    text: str


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


def refuse_unused(overrides: Mapping[str, Any]) -> None:
    """Refuses overrides when no stage runs again that could have them."""
    if overrides:
        raise InvalidValue(
            "overrides", sorted(overrides), "stages to give them to: nothing here has failed; name one with from_stage (--from)"
        )


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
        mine = {
            name: _as_stored(value, literals[name]) for name, value in overrides.items() if name in literals and name not in bound
        }
        if not mine:
            continue
        typed: dict[str, Any] = {}
        if (known := find_stage(stage.stage)) is not None:
            mapping = None if is_item(index) else stage.mapping
            signature = known.signature if mapping is None else known.signature.mapped(mapping.argument)
            typed = {name: value for name, value in mine.items() if name in signature.names}
            signature.check(typed)
        for name in mine.keys() - typed.keys():
            _refuse_another_kind(f"{name_of_it}.{name}", mine[name], literals[name])
        changed[index] = packed_apart(literals | mine, name_of_it)[0]
        missing -= mine.keys()
    if missing:
        known_names = sorted({name for literals in found.values() for name in literals})
        raise InvalidValue(
            "overrides", sorted(missing), f"arguments with values of their own: {', '.join(known_names) or 'none'}"
        )
    return changed


def _as_stored(value: Any, stored: Any) -> Any:
    if not isinstance(value, AsTyped):
        return value
    if isinstance(stored, str):
        return value.text
    try:
        return msgspec.json.decode(value.text)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError):
        return value.text


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
