"""What a declared type says about its parts: which fields and items a promise of it has, and where storage keeps them.

Results are stored as msgpack, so a field's place there may differ from its name: Structs may rename theirs or be lists,
and a NamedTuple is a list.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, NewType, NotRequired, Required, Union, cast, get_args, get_origin, get_type_hints, is_typeddict

import msgspec

from flowq.model.plan import PathStep


class Part(msgspec.Struct, frozen=True):
    """A part of a value.

    Attributes:
        step: the key or index under which the stored value holds it.
        annotation: its declared type.
        absent_because: why the stored value may lack it; empty: it is always there.
    """

    step: PathStep
    annotation: Any
    absent_because: str = ""


def attributes(annotation: Any) -> Mapping[str, Part]:
    """The fields that a value of this type has as attributes: of a Struct, dataclass or NamedTuple."""
    declared = plain(annotation)
    if is_typeddict(get_origin(declared) or declared):
        return {}
    return _parts(declared)


def keys(annotation: Any) -> Mapping[str, Part]:
    """The keys that a value of this type has: of a TypedDict."""
    declared = plain(annotation)
    return _parts(declared) if is_typeddict(get_origin(declared) or declared) else {}


def items(annotation: Any) -> tuple[Part, ...] | None:
    """The items of a type whose length is known: `tuple[A, B]` or a NamedTuple; None for all others."""
    declared = plain(annotation)
    arguments = get_args(declared)
    if get_origin(declared) is tuple and Ellipsis not in arguments:
        return tuple(Part(index, argument) for index, argument in enumerate(arguments))
    return tuple(_parts(declared).values()) if _is_named_tuple(declared) else None


def shown_type(annotation: Any) -> str:
    """A type as users write it."""
    if annotation is Any:
        return "Any"
    if isinstance(annotation, type) and not get_args(annotation):
        return "None" if annotation is type(None) else annotation.__qualname__.rsplit("<locals>.", 1)[-1]
    return str(annotation).replace("typing.", "")


def plain(annotation: Any) -> Any:
    """The type itself: without `Annotated`, `NewType` and `type X = …`."""
    while True:
        if get_origin(annotation) is Annotated:
            annotation = get_args(annotation)[0]
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":  # `type X = …`, Python 3.12 and later
            annotation = annotation.__value__
        else:
            return annotation


def may_be_none(annotation: Any) -> bool:
    """Whether the type is `X | None`."""
    return is_union(annotation) and type(None) in get_args(plain(annotation))


def is_union(annotation: Any) -> bool:
    """Whether the type is `X | Y`."""
    return get_origin(plain(annotation)) in (Union, types.UnionType)


def _is_named_tuple(declared: Any) -> bool:
    return isinstance(declared, type) and issubclass(cast("type[Any]", declared), tuple) and "_fields" in dir(declared)


@lru_cache(maxsize=1024)
def _parts(declared: Any) -> Mapping[str, Part]:
    kind: Any = get_origin(declared) or declared
    if not isinstance(kind, type):
        return {}
    record = cast("type[Any]", kind)
    if issubclass(record, msgspec.Struct):
        return _struct_parts(declared, record)
    if dataclasses.is_dataclass(record):
        hints = get_type_hints(record, include_extras=True)
        return {
            field.name: Part(field.name, hints[field.name], "" if field.init else "it is no argument of the dataclass")
            for field in dataclasses.fields(record)
        }
    if _is_named_tuple(record):
        hints = get_type_hints(record, include_extras=True)
        return {name: Part(index, hints.get(name, Any)) for index, name in enumerate(cast("Any", record)._fields)}
    if is_typeddict(record):
        return _typed_dict_parts(record)
    return {}


def _struct_parts(declared: Any, kind: type[msgspec.Struct]) -> Mapping[str, Part]:
    config = kind.__struct_config__
    # A tagged Struct that is stored as a list holds its tag first.
    first = 1 if config.tag is not None else 0
    return {
        field.name: Part(
            first + index if config.array_like else field.encode_name,
            field.type,
            "omit_defaults leaves it out of storage" if config.omit_defaults and not field.required else "",
        )
        for index, field in enumerate(msgspec.structs.fields(declared))
    }


def _typed_dict_parts(kind: Any) -> Mapping[str, Part]:
    required: frozenset[str] = kind.__required_keys__
    parts: dict[str, Part] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        # Annotations that are text hide NotRequired from __required_keys__ until they are resolved.
        marker = get_origin(hint)
        is_required = marker is Required or (name in required and marker is not NotRequired)
        annotation = get_args(hint)[0] if marker in (Required, NotRequired) else hint
        parts[name] = Part(name, annotation, "" if is_required else "it is not required")
    return parts
