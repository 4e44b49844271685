"""Whether a stage's declared result can be another's argument at all. Says no only to what every worker would refuse:
unions, enums, generic parameters, classes that msgspec converts in ways of its own are left to the worker.
"""

from __future__ import annotations

import dataclasses
from functools import lru_cache
from types import NoneType
from typing import Any, cast, get_origin, is_typeddict

import msgspec

from flowq.errors import ResultDoesNotFit
from flowq.pipeline.fields import plain, shown_type
from flowq.pipeline.signature import Signature

# The kinds of msgpack that a type is stored as, and is read from. An int is a float, and base64 is bytes.
_KINDS: dict[type[Any], frozenset[str]] = {
    NoneType: frozenset({"nil"}),
    bool: frozenset({"bool"}),
    int: frozenset({"int"}),
    float: frozenset({"float", "int"}),
    str: frozenset({"text"}),
    bytes: frozenset({"bytes", "text"}),
    dict: frozenset({"map"}),
    list: frozenset({"list"}),
    tuple: frozenset({"list"}),
    set: frozenset({"list"}),
    frozenset: frozenset({"list"}),
}


def can_never_be(given: Any, wanted: Any) -> bool:
    """Whether no value of the type `given`, once stored, can be read as the type `wanted`."""
    if given is wanted or given is Any or wanted is Any:
        return False
    given, wanted = plain(given), plain(wanted)
    given, wanted = get_origin(given) or given, get_origin(wanted) or wanted
    return isinstance(given, type) and isinstance(wanted, type) and _can_never_be(cast("Any", given), cast("Any", wanted))


def refuse_unfit_hook(option: str, hook: Signature, given: Any, giver: str) -> None:
    """Raises ResultDoesNotFit: what a hook is called with can never be its argument."""
    argument = hook.positional[0]
    wanted = hook.annotations[argument]
    if can_never_be(given, wanted):
        place = f"{hook.name}.{argument}"
        raise ResultDoesNotFit(place, shown_type(wanted), giver, shown_type(given), f"{option}={hook.name}")


@lru_cache(maxsize=1024)
def _can_never_be(given: type[Any], wanted: type[Any]) -> bool:
    stored, taken = _kinds(given), _kinds(wanted)
    if not stored or not taken or _is_kin(given, wanted):
        return False
    return stored.isdisjoint(taken) or not _required(wanted) <= (_keys(given) or _required(wanted))


def _is_kin(one: type[Any], other: type[Any]) -> bool:
    # A TypedDict is a dict, and refuses to be asked.
    return not is_typeddict(one) and not is_typeddict(other) and (issubclass(one, other) or issubclass(other, one))


def _kinds(kind: type[Any]) -> frozenset[str]:
    """Empty: it can't be said."""
    if issubclass(kind, msgspec.Struct):
        return _KINDS[list if kind.__struct_config__.array_like else dict]
    if is_typeddict(kind) or dataclasses.is_dataclass(kind):
        return _KINDS[dict]
    return _KINDS.get(kind, frozenset())


def _keys(kind: type[Any]) -> frozenset[str]:
    """The keys that a record is stored with; empty: any, or none."""
    if issubclass(kind, msgspec.Struct) and not kind.__struct_config__.array_like:
        return frozenset({*kind.__struct_encode_fields__, kind.__struct_config__.tag_field or ""})
    if dataclasses.is_dataclass(kind):
        return frozenset(field.name for field in dataclasses.fields(kind))
    return frozenset()


def _required(kind: type[Any]) -> frozenset[str]:
    """The keys without which a record can't be read."""
    if issubclass(kind, msgspec.Struct) and not kind.__struct_config__.array_like:
        names, defaults = kind.__struct_encode_fields__, kind.__struct_defaults__
        bound = [msgspec.NODEFAULT] * (len(names) - len(defaults)) + [*defaults]
        return frozenset(name for name, default in zip(names, bound, strict=True) if default is msgspec.NODEFAULT)
    if dataclasses.is_dataclass(kind):
        return frozenset(
            field.name
            for field in dataclasses.fields(kind)
            if field.init and field.default is field.default_factory is dataclasses.MISSING
        )
    return frozenset()
