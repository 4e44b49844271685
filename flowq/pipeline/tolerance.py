"""`tolerate` and `succeeded`: stages that run although children of theirs failed for good, and the types that allow for it."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache, reduce
from operator import or_
from typing import Any, TypeVar, cast, get_args, get_origin

import msgspec

from flowq.errors import InvalidValue
from flowq.model.failure import StageFailure
from flowq.pipeline.fields import is_union, plain
from flowq.pipeline.promise import Promise, tolerant
from flowq.pipeline.trace import current_trace

T = TypeVar("T")


def tolerate(result: T, /) -> T | StageFailure:
    """In a pipeline's body: the stage that takes this runs even if the child fails for good, and gets a `StageFailure` then.

    In `after=[tolerate(child)]` it only waits for the child's end, whatever that is.

    Args:
        result: a stage's result, whole.

    Raises:
        InvalidValue: it is something else.
    """
    if current_trace.get() is None:
        return result
    if type(result) is not Promise:
        raise InvalidValue("tolerate(…)", result, "the result of a stage, such as tolerate(encode(source))")
    return cast("T | StageFailure", tolerant(result, "value"))


def succeeded(results: Iterable[T], /) -> list[T]:
    """In a pipeline's body: the stage that takes this list runs when all of them have ended, and gets the results that there are.

    Args:
        results: results of stages; their order stays.

    Raises:
        InvalidValue: one of them is no stage's result.
    """
    if current_trace.get() is None:
        return list(results)
    listed = list(results)
    for result in listed:
        if type(result) is not Promise:
            raise InvalidValue("succeeded(…)", result, "a list of results of stages")
    return [cast("T", tolerant(cast("Promise", result), "drop")) for result in listed]


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
        members = [without_failure(member) for member in get_args(declared) if member is not StageFailure]
        return reduce(or_, members) if members else None
    if declared is StageFailure:
        return None
    return get_origin(declared)[tuple(without_failure(part) for part in get_args(declared))]


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


def _is_hashable(part: Any) -> bool:
    return getattr(type(part), "__hash__", None) is not None
