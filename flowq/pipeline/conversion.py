"""Plain values to declared types, and which declared types storage can't carry. Built on msgspec, like storage itself."""

from __future__ import annotations

import re
from types import NoneType
from typing import Any, cast, get_args

import msgspec

from flowq.errors import DefinitionError, InvalidValue
from flowq.pipeline.failures import allows_failure, convert_around_failures, without_failure
from flowq.pipeline.fields import is_union, plain, shown_type

# How msgspec names the part that does not fit: "Expected `int`, got `str` - at `$.frames[0]`".
_PLACE = re.compile(r" - at `\$\.?(.+)`$")
# Says no more than the value and the declared type do.
_PLAIN = re.compile(r"Expected `[^`]+`, got `[^`]+`")
# A value of exactly one of these types can't be wrong inside, so it needs no conversion.
_LEAVES = (str, int, float, bool, bytes, NoneType)
# Fields of msgspec's descriptions of types that hold classes and values, not further descriptions.
_NOT_TYPES = ("cls", "default", "default_factory")


def convert(value: Any, annotation: Any, field: str) -> Any:
    """The value as the declared type; itself when it is of that type already.

    Raises:
        InvalidValue: it does not fit; names `field`.
        DefinitionError: nothing can be converted to this type.
    """
    try:
        return convert_around_failures(value, annotation) if allows_failure(annotation) else msgspec.convert(value, annotation)
    except msgspec.ValidationError as error:
        reason = _PLACE.sub(r" at \1", str(error))
        expected = shown_type(annotation)
        raise InvalidValue(field, value, expected if _PLAIN.fullmatch(reason) else f"{expected} ({reason})") from None
    except TypeError as error:
        raise DefinitionError(f"{field} has type {shown_type(annotation)}, which can't be decoded: {error}") from None


def exact_types(annotation: Any) -> frozenset[type] | None:
    """The types whose instances are right as they are; None: any value is."""
    if annotation is Any or annotation is object:
        return None
    members: tuple[Any, ...] = get_args(plain(annotation)) if is_union(annotation) else (annotation,)
    return frozenset(member for member in members if member in _LEAVES or _is_record(member))


def unstorable(annotation: Any) -> str | None:
    """The first class in a type that msgspec can't carry, or what else is wrong with the type; None: all is well."""
    try:
        carried = without_failure(annotation)
        msgspec.msgpack.Decoder(carried)
        pending: list[Any] = [msgspec.inspect.type_info(carried)]
    except (TypeError, NameError) as error:
        return f"{shown_type(annotation)} ({error})"
    seen: set[int] = set()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, msgspec.inspect.CustomType):
            return f"{part.cls.__module__}.{part.cls.__qualname__}"
        if isinstance(part, list | tuple):
            pending.extend(cast("list[Any]", part))
        elif isinstance(part, msgspec.inspect.Type | msgspec.inspect.Field):
            pending.extend(getattr(part, name) for name in part.__struct_fields__ if name not in _NOT_TYPES)
    return None


def _is_record(annotation: Any) -> bool:
    if not isinstance(annotation, type):
        return False
    return issubclass(cast("type[Any]", annotation), msgspec.Struct) or "__dataclass_fields__" in dir(annotation)
