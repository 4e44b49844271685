"""`tolerate` and `succeeded`: stages that run although children of theirs failed for good."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar, cast

from flowq.errors import InvalidValue
from flowq.model.failure import StageFailure
from flowq.pipeline.promise import Promise, source_of, tolerant
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
        results: results of stages, or the result of `stage.map(…)`; their order stays.

    Raises:
        InvalidValue: one of them is no stage's result.
    """
    if type(results) is Promise:
        if source_of(results).is_map:
            return cast("list[T]", tolerant(results, "items"))
        raise InvalidValue("succeeded(…)", results, "a list of results of stages, or the result of a stage's map(…)")
    if not isinstance(cast("object", results), Iterable):
        raise InvalidValue("succeeded(…)", results, "a list of results of stages")
    listed = list(results)
    if current_trace.get() is None:
        return listed
    for result in listed:
        if type(result) is not Promise:
            raise InvalidValue("succeeded(…)", result, "a list of results of stages")
    return [cast("T", tolerant(cast("Promise", result), "drop")) for result in listed]
