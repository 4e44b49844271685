"""One run of a pipeline's body: records the calls of stages and hands out promises, then makes the flow of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any, Protocol

import msgspec

from flowq.errors import DefinitionError, FlowIsEmpty, ForeignPromise, InvalidValue, ResultDoesNotFit, StageNameTaken
from flowq.model.names import check_name
from flowq.model.plan import CONDITION, Binding, StagePlan
from flowq.model.spec import FlowSpec
from flowq.pipeline.compile import Call, CompiledPlans
from flowq.pipeline.conversion import convert
from flowq.pipeline.failures import allows_failure, union
from flowq.pipeline.fields import shown_type
from flowq.pipeline.fit import can_never_be
from flowq.pipeline.holes import packed_apart
from flowq.pipeline.lines import user_line
from flowq.pipeline.promise import Promise, Source, source_of
from flowq.pipeline.signature import Signature

current_trace: ContextVar[Trace | None] = ContextVar("flowq_trace", default=None)

_NO_ARGUMENTS = b"\x80"


class Nested(Protocol):
    """A pipeline that was called in the body of another one."""

    @property
    def pipeline(self) -> str:
        """Its name."""
        ...

    def inlined(self) -> Any:
        """Runs its body."""
        ...


class Trace:
    """The calls of one run of a body.

    Attributes:
        pipeline: the pipeline's name.
        fail_fast: whether its first failure ends the flow.
    """

    __slots__ = ("_calls", "_literals", "_names", "_nested", "_prefix", "_signatures", "fail_fast", "pipeline")

    def __init__(self, pipeline: str, *, fail_fast: bool = False) -> None:
        self.pipeline = pipeline
        self.fail_fast = fail_fast
        self._nested: list[Nested] = []
        self._names: Counter[str] = Counter()
        self._prefix = ""
        self._calls: list[Call] = []
        self._literals: dict[int, bytes] = {}
        self._signatures: dict[str, Signature] = {}

    def call(
        self,
        template: StagePlan,
        signature: Signature,
        arguments: dict[str, Any],
        after: Iterable[Any] = (),
        condition: object = True,
    ) -> Promise:
        """Records a call.

        Args:
            template: the stage without neighbours.
            signature: what the stage's function takes and gives.
            arguments: name → promise, literal, or a literal that holds promises.
            after: promises whose stages it waits for.
            condition: whether it is to run: a bool, or a promise of one.

        Raises:
            InvalidValue: a literal does not fit its annotation.
            ValueNotStorable, ValueTooLarge: a literal can't be stored.
            ForeignPromise: a promise of another run.
            ResultDoesNotFit: a promise's declared type can never be the argument's.
            StageNameTaken: another function of the same stage name was called before.
        """
        if self._prefix:
            template = msgspec.structs.replace(template, name=check_name(self._prefix + template.name, "stage name"))
        known = self._signatures.setdefault(template.stage, signature)
        if known.origin is not signature.origin and not (known.is_declared or signature.is_declared):
            raise StageNameTaken(template.stage, known.where, signature.where)
        index = len(self._calls)
        bindings: list[Binding] = []
        literals: dict[str, Any] = {}
        for name, value in arguments.items():
            if type(value) is Promise:
                bindings.append(self._binding((name,), value, template.name))
                _refuse_misfit(f"{template.name}.{name}", signature.annotations[name], value)
            else:
                literals[name] = value
        if literals or condition is False:
            bindings += self._packed(index, literals, signature, template.name, is_skipped=condition is False)
        if type(condition) is Promise:
            bindings.append(self._condition(condition, template.name))
        waits_for = tuple(self._after(promise, template.name) for promise in after) if after else ()
        self._calls.append(Call(template, tuple(bindings), waits_for))
        is_map = template.mapping is not None
        # A map that is skipped has no items: its result is an empty list.
        result = signature.result if condition is True or is_map else union(signature.result, None)
        label = f"{template.name}.map()" if is_map else f"{template.name}()"
        return Promise(Source(self, index, result, label, is_map=is_map))

    @property
    def size(self) -> int:
        """How many calls were recorded."""
        return len(self._calls)

    def nest(self, flow: Nested) -> None:
        """Notes the call of another pipeline in this body: it must be taken."""
        self._nested.append(flow)

    def take(self, flow: Nested) -> Any:
        """Records the calls of a pipeline that was called in this body, under its name, and gives what its body returned.

        Raises:
            ForeignPromise: it was called in another run of a body, or is taken twice.
        """
        if flow not in self._nested:
            raise ForeignPromise(f"the flow of {flow.pipeline}", f"subflow(…) in {self.pipeline}")
        self._nested.remove(flow)
        outer = self._prefix
        self._names[outer + flow.pipeline] += 1
        number = self._names[outer + flow.pipeline]
        self._prefix = f"{outer}{flow.pipeline}{f'-{number}' if number > 1 else ''}."
        try:
            return flow.inlined()
        finally:
            self._prefix = outer

    def returned(self, outcome: Any, pipeline: str, signature: Signature) -> Any:
        """What the body of a nested pipeline returned, if it can be of the type that it declares. Raises ResultDoesNotFit."""
        if type(outcome) is Promise:
            _refuse_misfit(f"the result of {pipeline}", signature.result, outcome, signature.where)
        return outcome

    def taken(self, arguments: dict[str, Any], pipeline: str, signature: Signature) -> dict[str, Any]:
        """The arguments of a nested pipeline: values, promises, or values that hold promises.

        Raises:
            InvalidValue, ValueNotStorable, ValueTooLarge, ResultDoesNotFit: one does not fit.
            ForeignPromise: a promise of another run.
        """
        _, holes = packed_apart(arguments, pipeline)
        for filled in holes:
            self._binding(filled.into, filled.hole, pipeline)
            if len(filled.into) == 1 and type(filled.hole) is Promise:
                _refuse_misfit(f"{pipeline}.{filled.into[0]}", signature.annotations[str(filled.into[0])], filled.hole)
        with_holes = {filled.into[0] for filled in holes}
        whole = {name: value for name, value in arguments.items() if name not in with_holes}
        return arguments | signature.converted(whole)

    def literals_of(self, index: int) -> bytes:
        """The packed literal arguments of a recorded call."""
        return self._literals.get(index, _NO_ARGUMENTS)

    def spec(self, outcome: Any, inputs: bytes, plans: CompiledPlans, signature: Signature) -> FlowSpec[Any]:
        """The flow of the recorded calls.

        Args:
            outcome: what the body returned: promises, literals, or containers of both.
            inputs: the packed arguments of the pipeline.
            plans: where compiled plans are kept.
            signature: the pipeline's, which declares its result.

        Raises:
            FlowIsEmpty: no stage was called.
            ResultDoesNotFit: what the body returned can never be of the declared type.
            InvalidValue: the same of a body that returned no stage's result.
        """
        if self._nested:
            nested = self._nested[0].pipeline
            raise DefinitionError(
                f"pipeline {nested!r} was called in the body of pipeline {self.pipeline!r}, but is no part of it",
                f"nest it: subflow({nested}(…))",
            )
        if not self._calls:
            raise FlowIsEmpty(self.pipeline)
        if type(outcome) is Promise:
            output: tuple[Binding, ...] = (self._binding((), outcome, self.pipeline),)
            literal = None
            _refuse_misfit(f"the result of {self.pipeline}", signature.result, outcome, signature.where)
        else:
            output, literal = self._output(outcome)
            if not output:
                convert(msgspec.msgpack.decode(literal), signature.result, f"result of {self.pipeline}")
        plan = plans.plan(self._calls, output)
        return FlowSpec(plan, self._literals, inputs, output_literal=literal, result_type=signature.result)

    def _packed(
        self, index: int, literals: dict[str, Any], signature: Signature, name: str, *, is_skipped: bool
    ) -> list[Binding]:
        literal, holes = packed_apart(literals | {CONDITION: False} if is_skipped else literals, name)
        bindings = [self._binding(filled.into, filled.hole, name) for filled in holes]
        with_holes = {binding.into[0] for binding in bindings}
        # What holds a promise can't be converted before the stage runs; the worker checks it then.
        signature.check({name: value for name, value in literals.items() if name not in with_holes} if holes else literals)
        self._literals[index] = literal
        return bindings

    def _output(self, outcome: Any) -> tuple[tuple[Binding, ...], bytes]:
        literal, holes = packed_apart({"result": outcome}, self.pipeline)
        output = tuple(self._binding(filled.into[1:], filled.hole, self.pipeline) for filled in holes)
        return output, msgspec.msgpack.encode(msgspec.msgpack.decode(literal)["result"])

    def _binding(self, into: tuple[str | int, ...], hole: object, used_by: str) -> Binding:
        if type(hole) is not Promise:
            raise InvalidValue(f"{used_by}.{into[0] if into else ''}", hole, "a stage's result or a value; a Node is neither")
        source = source_of(hole)
        if source.trace is not self:
            raise ForeignPromise(source.label, used_by)
        return Binding(into, source.child, source.take, source.on_failure)

    def _after(self, promise: object, name: str) -> tuple[int, bool]:
        if type(promise) is not Promise:
            raise InvalidValue(f"after of {name}", promise, "results of stages that were called in this body")
        binding = self._binding((), promise, name)
        return binding.child, binding.on_failure != "fail"

    def _condition(self, promise: Promise, name: str) -> Binding:
        source = source_of(promise)
        if source.annotation not in (bool, Any) or source.on_failure != "fail":
            raise InvalidValue(f"condition of {name}", promise, "a bool, or a stage's result that is declared to be one")
        return self._binding((CONDITION,), promise, name)


def _refuse_misfit(place: str, wanted: Any, promise: Promise, where: str | None = None) -> None:
    source = source_of(promise)
    is_unexpected_failure = source.on_failure == "value" and wanted is not Any and not allows_failure(wanted)
    if is_unexpected_failure or can_never_be(source.annotation, wanted):
        raise ResultDoesNotFit(place, shown_type(wanted), source.label, shown_type(source.annotation), where or user_line())
