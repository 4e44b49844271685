"""`Stage`: a function that does one step of a flow. In a pipeline's body a call is recorded; elsewhere it runs."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Generic, Literal, NoReturn, ParamSpec, TypeAlias, TypeVar, cast

from flowq.errors import DefinitionError, InvalidValue
from flowq.model.duration import Duration
from flowq.model.names import check_name
from flowq.model.plan import StagePlan, stage_label
from flowq.model.retry import Backoff
from flowq.model.spec import FlowSpec
from flowq.pipeline.code import code_digest
from flowq.pipeline.compile import CompiledPlans
from flowq.pipeline.failures import union
from flowq.pipeline.fit import refuse_unfit_hook
from flowq.pipeline.limit import limit, refuse_unknown_names
from flowq.pipeline.mapping import Bounds, TakesElement, elements, mapped, refuse_bounds
from flowq.pipeline.options import StageOptions
from flowq.pipeline.promise import Promise
from flowq.pipeline.retry_types import RetryTypes
from flowq.pipeline.signature import Signature
from flowq.pipeline.trace import Trace, current_trace

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Q = ParamSpec("Q")


class Stage(Generic[P, R]):
    """A step of a flow. Made by `@stage` or `declare`.

    Attributes:
        fn: the plain function, for tests and workers.
        name: the stage's name: what workers know it by.
        options: how it is run.
        signature: what it takes and gives.
        is_async: whether `fn` is an `async def`.
        is_declared: whether its code is elsewhere, so that no worker can run it from here.
        compensation: the stage that undoes it; None: nothing does.
        retry_types: which errors of `fn` are worth another attempt; None: all.
    """

    def __init__(
        self,
        fn: Callable[P, R] | Callable[P, Coroutine[Any, Any, R]],
        name: str,
        options: StageOptions,
        *,
        local_names: Mapping[str, Any] | None = None,
        is_declared: bool = False,
        compensation: AnyStage | None = None,
        retry_types: RetryTypes | None = None,
    ) -> None:
        """Use `@stage` or `declare`.

        Raises:
            InvalidValue: the name can't be a stage's.
            DefinitionError: the function can't be a stage, or it has a cache and a compensation.
        """
        _refuse_what_is_no_plain_function(fn)
        self.name = check_name(name, "stage name")
        self.fn: Callable[P, R] = cast("Callable[P, R]", _refusing(self.name) if is_declared else fn)
        self.options = options
        self.is_async = inspect.iscoroutinefunction(fn)
        self.is_declared = is_declared
        self.compensation = compensation
        self.retry_types = retry_types
        self.signature = Signature(fn, self.name, local_names, is_declared=is_declared)
        if options.cache_ms and not is_declared:
            code_digest(fn, self.name, options.version)
        refuse_unknown_names(options.limits, self.name, self.signature.names)
        self._template = options.template(self.name, self.name)
        self._after: tuple[Any, ...] = ()
        self._condition: Any = True
        self._bounds = Bounds()
        functools.update_wrapper(self, fn)

    @property
    def label(self) -> str:
        """What a plan and a worker must agree on: `encode`, or `encode@2` where it has a version."""
        return stage_label(self.name, self.options.version)

    @property
    def template(self) -> StagePlan:
        """It as a stage of a plan that knows no neighbours yet."""
        return self._template

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """In a pipeline's body: records the call and returns a promise of the result. Elsewhere: runs the function.

        Raises:
            WrongArguments, InvalidValue, ValueNotStorable, ValueTooLarge: in a body: the arguments are refused.
        """
        refuse_bounds(self._bounds, self.name)
        trace = current_trace.get()
        if trace is None:
            outcome = self.fn(*args, **kwargs)
            remember_plain_run(self.name, outcome)
            return outcome
        arguments = self.signature.bound(args, kwargs)
        self._refuse_unfit_compensation()
        return cast("R", trace.call(self._template, self.signature, arguments, self._after, self._condition))

    def map(self: TakesElement[T, Q, R], items: Iterable[T], /, *args: Q.args, **kwargs: Q.kwargs) -> list[R]:
        """Runs the stage once for each element of a list, and gives the list of results in the same order.

        In a pipeline's body the list may be a stage's result: how many there are is known only when that has completed. Each
        element becomes an *item* with attempts, a timeout and artifacts of its own: `encode[17]`. See `with_options` for how
        many may run at once, and how many must complete. Elsewhere: runs the function for each.

        Args:
            items: a stage's result that is declared to be a list, or a list.
            args, kwargs: the stage's other arguments; all items get the same.

        Raises:
            WrongArguments, InvalidValue, ValueNotStorable, ValueTooLarge: in a body: the arguments are refused.
            ResultDoesNotFit: the declared type of `items` can never be a list of what the stage takes.
        """
        stage = cast("AnyStage", self)
        trace = current_trace.get()
        if trace is None:
            return [stage.fn(item, *args, **kwargs) for item in items]
        argument, signature = mapped(stage.signature)
        stage._refuse_unfit_compensation()
        template = stage._bounds.template(stage._template, argument)
        arguments = signature.bound((items if type(items) is Promise else elements(items, stage.name), *args), kwargs)
        return cast("list[R]", trace.call(template, signature, arguments, stage._after, stage._condition))

    def flow(self, *args: P.args, **kwargs: P.kwargs) -> FlowSpec[R]:
        """A flow of this one stage.

        Raises:
            WrongArguments, InvalidValue, ValueNotStorable, ValueTooLarge: the arguments are refused.
            DefinitionError: it was called in a pipeline's body.
        """
        refuse_bounds(self._bounds, self.name)
        if (outer := current_trace.get()) is not None:
            raise DefinitionError(
                f"{self.name}.flow() was called in the body of pipeline {outer.pipeline!r}", f"call {self.name}() there"
            )
        self._refuse_unfit_compensation()
        trace = Trace(self._template.name)
        promise = trace.call(self._template, self.signature, self.signature.bound(args, kwargs), self._after, self._condition)
        spec: FlowSpec[R] = trace.spec(promise, trace.literals_of(0), self._plans, self.signature)
        if self._condition is not True:
            spec.result_type = union(spec.result_type, None)
        return spec

    def with_options(
        self,
        *,
        name: str | None = None,
        queue: str | None = None,
        attempts: int | None = None,
        backoff: Backoff | None = None,
        timeout: Duration | None = None,
        priority: int | None = None,
        delay: Duration | None = None,
        stall: Duration | None = None,
        after: Iterable[object] | None = None,
        at_once: int | None = None,
        need: int | Literal["all", "any"] | None = None,
        limits: Sequence[limit] | None = None,
        cache: Duration | Literal[False] | None = None,
    ) -> Stage[P, R]:
        """The same stage with other options for the calls made through it; what is not given stays.

        Args:
            name: the stage's name in the flow.
            queue, attempts, backoff, timeout, priority, stall, limits: as in `@stage`.
            delay: how long it waits after its release, that is, when all its children have completed.
            after: results of stages that must complete first though they are no arguments; `tolerate(…)` them to wait only for
                their end.
            at_once: of `map`: how many items may run at once; default: as many as workers have room for.
            need: of `map`: how many items must complete: `"all"`, `"any"` (one) or a number. Then the others are stopped, and the
                list has the results of those that have completed.
            cache: as in `@stage`; False: it always runs, and its result is kept for nobody.

        Raises:
            InvalidValue: an option is out of range.
            DefinitionError: a cache for a stage that has a compensation, or whose source can't be read.
        """
        if cache and not self.is_declared:
            code_digest(self.fn, self.name, self.options.version)
        variant: Stage[P, R] = object.__new__(type(self))
        variant.__dict__.update(self.__dict__)
        variant.__dict__.pop("_plans", None)
        variant.options = self.options.changed(
            queue=queue, attempts=attempts, backoff=backoff, timeout=timeout, priority=priority, delay=delay, stall=stall,
            limits=limits, cache=cache,
        )  # fmt: skip
        refuse_unknown_names(variant.options.limits, self.name, self.signature.names)
        variant._template = variant.options.template(
            self._template.name if name is None else check_name(name, "stage name"), self.name
        )
        if after is not None:
            variant._after = _checked_after(after)
        variant._bounds = self._bounds.changed(at_once, need)
        return variant

    def when(self, condition: bool) -> Stage[P, R | None]:
        """The same stage, which runs only if the condition holds; else it is `skipped`, and its result is None.

        Args:
            condition: a bool, or a stage's result that is declared to be one.

        Raises:
            InvalidValue: it is neither.
        """
        if type(condition) not in (bool, Promise):
            raise InvalidValue(f"condition of {self.name}", condition, "a bool, or a stage's result that is declared to be one")
        variant = self.with_options()
        variant._condition = condition
        return cast("Stage[P, R | None]", variant)

    def _refuse_unfit_compensation(self) -> None:
        if self.compensation is not None:
            refuse_unfit_hook("compensate", self.compensation.signature, self.signature.result, f"{self.name}()")

    @functools.cached_property
    def _plans(self) -> CompiledPlans:
        return CompiledPlans(self._template.name)

    def __repr__(self) -> str:
        return f"<{'declared ' if self.is_declared else ''}stage {self.name}{self.signature}>"


# Any stage, whatever it takes and gives.
AnyStage: TypeAlias = Stage[..., Any]


class _PlainRun:
    """The last stage that ran as a plain function, so that `add(download(url))` can name it. A hint only."""

    name = ""
    outcome_id = 0


def remember_plain_run(name: str, outcome: object) -> None:
    """Keeps which stage ran outside a body, and the identity of what it returned."""
    _PlainRun.name = name
    _PlainRun.outcome_id = id(outcome)


def plain_run_of(value: object) -> str | None:
    """The stage that has just returned this very value, or None."""
    return _PlainRun.name if _PlainRun.outcome_id == id(value) and value is not None else None


def _refusing(name: str) -> Callable[..., Any]:
    """What runs when a declared stage is called as a plain function."""

    def refuse(*_: object, **__: object) -> NoReturn:
        raise DefinitionError(
            f"stage {name!r} is only declared here: its code is elsewhere",
            f"call it in a pipeline, or submit {name}.flow(…) to workers that have its code",
        )

    return refuse


def _checked_after(after: Iterable[object]) -> tuple[Any, ...]:
    if type(after) is Promise or type(after) is str or not hasattr(type(after), "__iter__"):
        raise InvalidValue("after", after, "a list of results of stages, such as after=[cleanup]")
    return tuple(after)


def _refuse_what_is_no_plain_function(fn: object) -> None:
    if isinstance(fn, Stage):
        raise DefinitionError(f"{fn.name!r} is a stage already", "use with_options(…) for other options")
    if not inspect.isfunction(fn):
        raise DefinitionError(
            f"a stage is made of a function, not of a {type(fn).__name__}",
            "give it a def, and options by name: @stage(queue='gpu')",
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DefinitionError(f"{fn.__qualname__} is a generator", "return a list, or write the items to an artifact")
    owner, dot, _ = fn.__qualname__.rpartition(".")
    if dot and not owner.endswith("<locals>"):
        raise DefinitionError(f"{fn.__qualname__} is a method", "a stage is a function of a module")
