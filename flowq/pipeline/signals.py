"""`signal`: a stage of a flow that waits until somebody says something, such as an approval."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar, cast, overload

import msgspec

from flowq.errors import DefinitionError, InvalidValue
from flowq.model.builtin import BUILTIN_QUEUE, SIGNAL_STAGE
from flowq.model.duration import Duration, to_ms
from flowq.model.names import check_name
from flowq.model.plan import StagePlan
from flowq.pipeline.conversion import convert
from flowq.pipeline.failures import union
from flowq.pipeline.signature import Signature
from flowq.pipeline.trace import current_trace

D = TypeVar("D")
T = TypeVar("T")

_NO_DEFAULT: Any = object()


@overload
def signal(name: str, type: type[T], *, timeout: Duration | None = ..., after: Iterable[object] = ...) -> T: ...
@overload
def signal(name: str, type: type[T], *, timeout: Duration | None = ..., default: D, after: Iterable[object] = ...) -> T | D: ...
@overload
def signal(name: str, *, timeout: Duration | None = ..., default: Any = ..., after: Iterable[object] = ...) -> Any: ...
def signal(
    name: str, type: Any = Any, *, timeout: Duration | None = None, default: Any = _NO_DEFAULT, after: Iterable[object] = ()
) -> Any:
    """In a pipeline's body: a stage that completes when somebody sends this signal, with the promise of its value.

    Every worker serves it, and it holds no slot. Send with `flow.signal(name, value)` or `flowq signal`.

    Args:
        name: the signal's name, and the stage's.
        type: the type of its value. A value that does not fit is refused: the stage waits on.
        timeout: how long to wait, from when it begins to.
        default: what it gives when that is over; without one the stage fails with SignalTimedOut.
        after: results of stages that must complete before it begins to wait.

    Raises:
        InvalidValue: no signal can have this name; the timeout is no duration; the default does not fit; a default without one.
        DefinitionError: this is no pipeline's body, or values of this type can't be stored.
    """
    trace = current_trace.get()
    if trace is None:
        raise DefinitionError(
            f"signal({name!r}) was called outside a pipeline's body",
            f"in a stage, use `await context().wait_for_signal({name!r})`",
        )
    timeout_ms = None if timeout is None else to_ms(timeout, "timeout")
    if default is not _NO_DEFAULT and timeout_ms is None:
        raise InvalidValue("default", default, "one only with a timeout: without it the signal is waited for without end")
    template = StagePlan(check_name(name, "signal"), SIGNAL_STAGE, BUILTIN_QUEUE)
    annotation, defaults = _with_default(name, type, default)
    arguments = {"name": name, "schema": _schema_of(name, type), "timeout_ms": timeout_ms, "default": defaults}
    return trace.call(template, _signature(name, annotation), arguments, after)


def _with_default(name: str, annotation: Any, default: Any) -> tuple[Any, list[Any]]:
    if default is _NO_DEFAULT:
        return annotation, []
    try:
        convert(msgspec.to_builtins(default), annotation, f"default of signal {name}")
    except InvalidValue:
        return union(annotation, None if default is None else cast("Any", type(default))), [default]
    return annotation, [default]


def _schema_of(name: str, annotation: Any) -> dict[str, Any] | None:
    if annotation is Any:
        return None
    try:
        return msgspec.json.schema(annotation)
    except (TypeError, NameError) as error:
        raise DefinitionError(
            f"a value of signal {name!r} can't be stored: {error}", "give it a type that a stage may return"
        ) from None


def _signature(name: str, annotation: Any) -> Signature:
    def sent(name: str, schema: dict[str, Any] | None, timeout_ms: int | None, default: list[Any]) -> Any: ...

    sent.__annotations__["return"] = annotation
    return Signature(sent, f"signal {name}", is_declared=True)
