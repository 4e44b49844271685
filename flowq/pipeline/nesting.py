"""`subflow`: a pipeline inside another one's body. Its stages become stages of the outer flow, named `captions.transcribe`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from flowq.errors import DefinitionError, InvalidValue
from flowq.model.spec import FlowSpec
from flowq.pipeline.trace import current_trace

R = TypeVar("R")


class NestedFlow(FlowSpec[R]):
    """What a pipeline's call gives in the body of another one: nothing yet, until `subflow` takes it.

    Attributes:
        pipeline: the pipeline's name.
    """

    __slots__ = ("_inline", "pipeline")

    def __init__(self, pipeline: str, inline: Callable[[], R]) -> None:
        self.pipeline = pipeline
        self._inline = inline

    def inlined(self) -> R:
        """Records the calls of its body in the outer one and gives its result."""
        return self._inline()

    def with_options(self, **_: Any) -> NoReturn:
        """Refuses: they are the outer flow's."""
        raise DefinitionError(f"pipeline {self.pipeline!r} is nested, so it has no id, tenant, tags or priority", "drop them")

    def __repr__(self) -> str:
        return f"<nested flow of {self.pipeline}>"


def subflow(flow: FlowSpec[R], /) -> R:
    """In a pipeline's body: runs another pipeline as a part of this one and gives the promise of its result.

    Its stages are stages of this flow, `captions.transcribe` and so on: retried, cancelled and shown with it. Its arguments may
    be promises.

    Args:
        flow: the pipeline's call, such as `subflow(captions(video))`.

    Raises:
        DefinitionError: this is no pipeline's body; or the nested pipeline fails fast and this one does not.
        InvalidValue: it is something else.
    """
    trace = current_trace.get()
    if trace is None:
        raise DefinitionError(
            "subflow(…) was called outside a pipeline's body", "in a stage, use `await context().spawn(…)`; else producer.add(…)"
        )
    if not isinstance(flow, NestedFlow):
        raise InvalidValue("subflow(…)", flow, "a pipeline's call in this body, such as subflow(captions(video))")
    return trace.take(flow)
