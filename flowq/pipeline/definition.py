"""`@pipeline`: a function whose body wires stages. Its call runs the body once and returns the flow it describes."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, overload

from flowq.errors import BodyFailed, DefinitionError, FlowIsEmpty, FlowqError
from flowq.model.hooks import FlowEnd
from flowq.model.keep import Keep, KeepOptions
from flowq.model.names import check_name
from flowq.model.spec import FlowSpec
from flowq.pipeline.compile import CompiledPlans
from flowq.pipeline.fit import refuse_unfit_hook
from flowq.pipeline.holes import packed_apart
from flowq.pipeline.hooks import Takes, hook_of
from flowq.pipeline.lines import line_of
from flowq.pipeline.nesting import NestedFlow
from flowq.pipeline.reach import stages_reached_from
from flowq.pipeline.signature import Signature, surrounding_names
from flowq.pipeline.stage import AnyStage, Stage
from flowq.pipeline.trace import Trace, current_trace

P = ParamSpec("P")
R = TypeVar("R")


class Pipeline(Generic[P, R]):
    """A named definition that makes flows. Made by `@pipeline`.

    Attributes:
        fn: the body.
        name: the pipeline's name: part of what identifies a flow.
        signature: what it takes and gives.
        finally_: the stage that runs after the end of each of its flows; None: none does.
    """

    # `reach`, which this module imports, knows pipelines by it.
    is_pipeline = True

    def __init__(
        self,
        fn: Callable[P, R],
        name: str | None = None,
        local_names: Mapping[str, Any] | None = None,
        *,
        fail_fast: bool = False,
        finish_first: bool = False,
        keep: KeepOptions | None = None,
        finally_: Takes[FlowEnd] | None = None,
    ) -> None:
        """Use `@pipeline`.

        Raises:
            InvalidValue: the name can't be a pipeline's; `finally_` is no stage.
            DefinitionError: the function can't be a pipeline, or `finally_` not be called with one argument.
        """
        _refuse_what_is_no_body(fn)
        self.fn = fn
        self.name = check_name(fn.__name__ if name is None else name, "pipeline name")
        self.signature = Signature(fn, self.name, local_names)
        kept = None if keep is None else Keep.checked(keep)
        self._fail_fast = fail_fast
        hook, self.finally_ = (None, None) if finally_ is None else hook_of("finally_", finally_)
        self._plans = CompiledPlans(self.name, fail_fast=fail_fast, finish_first=finish_first, keep=kept, finally_=hook)
        functools.update_wrapper(self, fn)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> FlowSpec[R]:
        """Runs the body and returns the flow: checked, not stored yet. Give it to `producer.add`.

        Raises:
            WrongArguments, InvalidValue, ValueNotStorable, ValueTooLarge: the arguments are refused.
            FlowIsEmpty: the body called no stage.
            ResultNotReady: the body used a stage's result as a value.
            ResultDoesNotFit: the body put a stage's result where another type is declared.
            BodyFailed: the body raised an exception of its own.
            DefinitionError: in the body of another pipeline, which must take it with `subflow`: it fails fast, and that does not.
        """
        if (outer := current_trace.get()) is not None:
            return self._nested(outer, self.signature.bound(args, kwargs))
        # Converted before they are packed: a dict and the Struct it stands for are the same inputs.
        arguments = self.signature.converted(self.signature.bound(args, kwargs))
        inputs, holes = packed_apart(arguments, self.name)
        if holes:
            raise DefinitionError(f"{self.name}() got {holes[0].hole!r}", "give it values: its stages have not run yet")
        if self.finally_ is not None:
            refuse_unfit_hook("finally_", self.finally_.signature, FlowEnd, f"the end of {self.name}")
        trace = Trace(self.name, fail_fast=self._fail_fast)
        token = current_trace.set(trace)
        try:
            outcome = self._run_body(arguments)
        finally:
            current_trace.reset(token)
        return trace.spec(outcome, inputs, self._plans, self.signature)

    def _run_body(self, arguments: dict[str, Any]) -> R:
        try:
            return self.fn(**arguments)  # type: ignore[call-arg]
        except FlowqError:
            raise
        except Exception as error:  # the body is the user's code and may raise anything
            trace_of_body = error.__traceback__ and error.__traceback__.tb_next
            raise BodyFailed(self.name, error, line_of(error, trace_of_body)) from error

    def _nested(self, outer: Trace, arguments: dict[str, Any]) -> FlowSpec[R]:
        if self._fail_fast and not outer.fail_fast:
            raise DefinitionError(
                f"pipeline {self.name!r} fails fast, and {outer.pipeline!r}, in whose body it was called, does not",
                f"a flow fails fast as a whole: give {outer.pipeline!r} fail_fast=True, or spawn {self.name!r} in a stage",
            )

        if self.finally_ is not None:
            raise DefinitionError(
                f"pipeline {self.name!r} has finally_={self.finally_.name}, and was called in the body of {outer.pipeline!r},"
                " whose end is another",
                f"give {outer.pipeline!r} finally_={self.finally_.name}, or spawn {self.name!r} in a stage",
            )

        def inline() -> R:
            size = outer.size
            outcome = self._run_body(outer.taken(arguments, self.name, self.signature))
            if outer.size == size:
                raise FlowIsEmpty(self.name)
            return outer.returned(outcome, self.name, self.signature)

        nested = NestedFlow(self.name, inline)
        outer.nest(nested)
        return nested

    def stages(self) -> tuple[AnyStage, ...]:
        """All stages that the body can reach, and their hooks, by name; what it computes, such as `getattr(module, name)`, is not
        seen.

        Raises:
            StageNameTaken: two different functions of one stage name are among them.
        """
        return stages_reached_from(self.fn, self.finally_)

    def __repr__(self) -> str:
        return f"<pipeline {self.name}{self.signature}>"


class PipelineDecorator(Protocol):
    """What `@pipeline(…)` returns."""

    def __call__(self, fn: Callable[P, R], /) -> Pipeline[P, R]: ...


@overload
def pipeline(fn: Callable[P, R], /) -> Pipeline[P, R]: ...
@overload
def pipeline(
    *,
    name: str | None = None,
    fail_fast: bool = False,
    finish_first: bool = False,
    keep: KeepOptions | None = None,
    finally_: Takes[FlowEnd] | None = None,
) -> PipelineDecorator: ...
def pipeline(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    fail_fast: bool = False,
    finish_first: bool = False,
    keep: KeepOptions | None = None,
    finally_: Takes[FlowEnd] | None = None,
) -> Any:
    """Makes a pipeline of a function whose body calls stages: `@pipeline`, or `@pipeline(name="short")`.

    The body runs once for each flow, when it is submitted: parameters are real values, results of stages are promises.

    Args:
        fn: the function; a plain `def`.
        name: the pipeline's name; default: the function's.
        fail_fast: whether a stage that fails for good fails the flow at once, and what runs beside it is cancelled. Else what
            does not need its result goes on, and the flow fails when that has ended.
        finish_first: whether all stages that its flows release go before the first stages of flows of the same priority that have
            not begun; else one of five that a worker takes is of these. A larger priority still goes before.
        keep: how long its flows are kept when they have ended, such as `{"completed": "1d", "failed": "30d"}`, and how many of
            them, such as `{"completed_most": 1000}`; what is not given is as for all flows: see the settings.
        finally_: a stage that runs once after the end of each flow, whatever became of it, and after all compensations; it gets a
            `flowq.hooks.FlowEnd`. Nobody waits for it, and its failure changes nothing of the flow.

    Raises:
        InvalidValue: the name can't be a pipeline's; a length or count in `keep` is out of range; `finally_` is no stage.
        DefinitionError: the function can't be a pipeline, or `finally_` not be called with one argument.
    """

    def decorated(fn: Callable[..., Any]) -> Pipeline[..., Any]:
        names = surrounding_names(fn)
        return Pipeline(fn, name, names, fail_fast=fail_fast, finish_first=finish_first, keep=keep, finally_=finally_)

    return decorated if fn is None else Pipeline(fn, name, surrounding_names(fn))


def _refuse_what_is_no_body(fn: object) -> None:
    if isinstance(fn, Stage):
        raise DefinitionError(f"{fn.name!r} is a stage", "a pipeline is a plain function that calls stages")
    if not inspect.isfunction(fn):
        raise DefinitionError(
            f"a pipeline is made of a function, not of a {type(fn).__name__}",
            "give it a def, and its name as @pipeline(name='short')",
        )
    if inspect.iscoroutinefunction(fn):
        raise DefinitionError(
            f"the body of pipeline {fn.__name__!r} is async",
            "make it a plain def: it only wires stages, and async stages need no await",
        )
    if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
        raise DefinitionError(f"the body of pipeline {fn.__name__!r} is a generator", "return the results, don't yield them")
