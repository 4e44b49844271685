"""Types that allow for a `StageFailure` where a result would be, and values of them."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Union, cast, get_args, get_origin

import msgspec

from flowq.model.failure import StageFailure
from flowq.pipeline.fields import is_union, plain


@lru_cache(maxsize=1024)
def allows_failure(annotation: Any) -> bool:
    """Whether a `StageFailure` may be somewhere in a value of this type."""
    declared = plain(annotation)
    return declared is StageFailure or any(allows_failure(part) for part in get_args(declared) if _is_hashable(part))


def without_failure(annotation: Any) -> Any:
    """The type of the values that are no failures: what storage has to carry."""
    declared = plain(annotation)
    if not allows_failure(declared):
        return annotation
    if is_union(declared):
        return union(*(without_failure(member) for member in get_args(declared) if member is not StageFailure))
    if declared is StageFailure:
        return None
    return get_origin(declared)[tuple(without_failure(part) for part in get_args(declared))]


def union(*members: Any) -> Any:
    """`A | B`, of whatever can stand in an annotation."""
    return Union[members] if members else None  # noqa: UP007  `|` knows classes only


def convert_around_failures(value: Any, annotation: Any) -> Any:
    """Like `msgspec.convert` for types that allow for failures; msgspec itself knows no unions of two Structs.

    Raises:
        msgspec.ValidationError: the value does not fit.
        TypeError: the type has a failure where none can be.
    """
    declared = plain(annotation)
    if type(value) is StageFailure:
        members = get_args(declared) if is_union(declared) else (declared,)
        if declared is Any or StageFailure in members:
            return value
        raise msgspec.ValidationError(f"Expected a result, got the failure of {value.stage}")
    if not allows_failure(declared):
        return msgspec.convert(value, declared)
    if is_union(declared) or declared is StageFailure:
        return msgspec.convert(value, without_failure(declared))
    origin, parts = get_origin(declared), get_args(declared)
    if origin is dict and type(value) is dict:
        return {key: convert_around_failures(item, parts[1]) for key, item in cast("dict[str, Any]", value).items()}
    if origin is list and type(value) is list:
        return [convert_around_failures(item, parts[0]) for item in cast("list[Any]", value)]
    if origin is tuple and type(value) is list:
        items = cast("list[Any]", value)
        kinds = [parts[0]] * len(items) if Ellipsis in parts else parts
        if len(kinds) != len(items):
            raise msgspec.ValidationError(f"Expected `array` of length {len(kinds)}, got {len(items)}")
        return tuple(convert_around_failures(item, kind) for item, kind in zip(items, kinds, strict=True))
    if origin in (dict, list, tuple):
        raise msgspec.ValidationError(f"Expected `{'object' if origin is dict else 'array'}`, got `{type(value).__name__}`")
    raise TypeError("a StageFailure may stand alone, or in a list, tuple or dict")


def _is_hashable(part: object) -> bool:  # the parameters of a Callable are a list
    return part.__hash__ is not None
