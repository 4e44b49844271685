"""`@stage` and `declare`: how stages come to be."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Literal, ParamSpec, Protocol, TypedDict, TypeVar, Unpack, overload

from flowq.model.duration import Duration
from flowq.model.plan import Isolation
from flowq.model.retry import Backoff
from flowq.pipeline.hooks import Takes, with_compensation
from flowq.pipeline.limit import limit
from flowq.pipeline.options import StageOptions
from flowq.pipeline.registry import register
from flowq.pipeline.retry_types import ErrorTypes, RetryTypes
from flowq.pipeline.signature import surrounding_names
from flowq.pipeline.stage import AnyStage, Stage

P = ParamSpec("P")
R = TypeVar("R")


class DeclareOptions(TypedDict, total=False):
    """The options of a stage, as users write them: what `@stage` and `declare` take by name.

    Attributes:
        queue: the queue whose workers run it; default: `default`.
        attempts: how often it may run before it fails for good, 1 to 100; counts the first run.
        backoff: the wait before each retry; default: 1 s, 2 s, 4 s … up to 5 minutes.
        timeout: how long one attempt may run; default: no limit.
        priority: larger runs first, among the stages of one queue.
        isolation: `thread`: in a thread (`async def`: in the loop) of a shared process; `process`: in a process of its own,
            which can be killed.
        stall: how long one attempt may go without a `context().progress(…)`; default: no limit.
        version: which version of the function this is, such as `"2"`: only workers that have this very version run the stage.
            Flows in flight keep the version that they were submitted with.
        limits: limits that the stage keeps to for all of its run, such as `[limit("openai", tokens=1200)]`. It waits for them
            before its timeout begins.
        needs: what it takes of a worker host's own room, such as `{"gpu": 1, "vram": 20}`: it is claimed where that is free.
        cache: for so long its result is used by any flow whose call has the same inputs, by content, instead of running it: say
            `"30d"`. Counts for one version and text of the function. Default: it always runs.
        compensate: a stage that undoes this one, called with its result: runs when the flow has failed or was cancelled and this
            stage had completed. Those of a flow run one after the other, the last to complete first; of a map for each item.
    """

    queue: str
    attempts: int
    backoff: Backoff | None
    timeout: Duration | None
    priority: int
    isolation: Isolation
    stall: Duration | None
    version: str | None
    limits: Sequence[limit]
    needs: Mapping[str, int]
    cache: Duration | Literal[False] | None
    compensate: Takes[Any] | None


class StageDecorator(Protocol):
    """What `@stage(…)` returns: makes a stage of a function; an `async def` of R is a stage of R as well."""

    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Stage[P, R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Stage[P, R]: ...


@overload
def stage(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Stage[P, R]: ...
@overload
def stage(fn: Callable[P, R], /) -> Stage[P, R]: ...
@overload
def stage(
    *,
    name: str | None = None,
    retry_on: ErrorTypes | None = None,
    unrecoverable: ErrorTypes = (),
    **options: Unpack[DeclareOptions],
) -> StageDecorator: ...
def stage(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry_on: ErrorTypes | None = None,
    unrecoverable: ErrorTypes = (),
    **options: Unpack[DeclareOptions],
) -> Any:
    """Makes a stage of a function: `@stage`, or `@stage(queue="gpu", attempts=2)`.

    Args:
        fn: the function; arguments and result are what msgspec can carry, large things are Artifacts.
        name: the stage's name; default: the function's.
        retry_on: a type of exceptions, or a tuple of such: only these are retried, others fail the stage at once. Default: all.
            A timeout, a crash and `RetryAfter` lead to what they always do. Both of these stay with the code, in the worker.
        unrecoverable: such types that are never retried, as if `Unrecoverable` had been raised; goes before `retry_on`.
        options: queue, attempts, backoff, timeout, priority, isolation, stall, version, limits, needs, cache and compensate: see
            `DeclareOptions`.

    Raises:
        InvalidValue: an option is out of range.
        StageNameTaken: another function has this name.
        DefinitionError: the function can't be a stage, `compensate` can't be called with one argument, or there is a cache, too.
    """
    checked, compensation = _checked(options)
    retry_types = RetryTypes(retry_on, unrecoverable)

    def made_of(fn: Callable[..., Any], local_names: Mapping[str, Any] | None) -> AnyStage:
        made = Stage(
            fn, _name_of(fn) if name is None else name, checked,
            local_names=local_names, compensation=compensation, retry_types=retry_types,
        )  # fmt: skip
        register(made)
        return made

    def decorated(fn: Callable[..., Any]) -> AnyStage:
        return made_of(fn, surrounding_names(fn))

    return decorated if fn is None else made_of(fn, surrounding_names(fn))


@overload
def declare(name: str, signature: Callable[P, Coroutine[Any, Any, R]], **options: Unpack[DeclareOptions]) -> Stage[P, R]: ...
@overload
def declare(name: str, signature: Callable[P, R], **options: Unpack[DeclareOptions]) -> Stage[P, R]: ...
def declare(name: str, signature: Callable[..., Any], **options: Unpack[DeclareOptions]) -> AnyStage:
    """A typed stage whose code is elsewhere, so that a web process need not import torch to submit it.

    Options are part of the flow from its submission on: give those that the stage's code gives.

    Args:
        name: the name under which workers know the stage.
        signature: a function whose annotations say what the stage takes and gives; its body is never run.
        options: as in `@stage`: see `DeclareOptions`.

    Raises:
        InvalidValue: an option is out of range.
        DefinitionError: the signature can't be a stage's, or it has `cache` and `compensate`.
    """
    checked, compensation = _checked(options)
    local_names = surrounding_names(signature)
    declared = Stage(signature, name, checked, local_names=local_names, is_declared=True, compensation=compensation)
    register(declared)
    return declared


def _checked(options: DeclareOptions) -> tuple[StageOptions, AnyStage | None]:
    """The options, and the stage that undoes this one."""
    if unknown := options.keys() - DeclareOptions.__annotations__.keys():
        raise TypeError(f"a stage has no option {', '.join(sorted(unknown))}; it has {', '.join(DeclareOptions.__annotations__)}")
    given: dict[str, object] = {**options}
    compensate = given.pop("compensate", None)
    checked = StageOptions().changed(**given)
    return (checked, None) if compensate is None else with_compensation(checked, compensate)


def _name_of(fn: object) -> str:
    return getattr(fn, "__name__", "")
