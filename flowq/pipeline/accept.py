"""`to_spec`: what `producer.add` takes, and what it answers to everything else."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, TypeVar, cast, overload

from flowq.errors import NotAFlow
from flowq.model.spec import FlowSpec
from flowq.pipeline.definition import Pipeline
from flowq.pipeline.node import Node, NodeLike
from flowq.pipeline.node_graph import spec_from_node
from flowq.pipeline.promise import Promise
from flowq.pipeline.stage import AnyStage, Stage, plain_run_of

T = TypeVar("T")


@overload
def to_spec(value: FlowSpec[T]) -> FlowSpec[T]: ...
@overload
def to_spec(value: NodeLike) -> FlowSpec[Any]: ...
def to_spec(value: object) -> FlowSpec[Any]:
    """The flow that a user's value describes: a pipeline's call, `stage.flow(…)`, a Node or a mapping.

    Raises:
        NotAFlow: anything else; says what was probably meant. A coroutine is closed.
        FlowHasCycle, UnknownChild, InvalidValue, ValueNotStorable, ValueTooLarge: the graph of a Node is refused.
    """
    if type(value) is Promise:
        raise NotAFlow(value, "it is a promise of a pipeline's body: add what the pipeline returns")
    if isinstance(value, FlowSpec):
        return cast("FlowSpec[Any]", value)
    if isinstance(value, Node):
        return spec_from_node(value)
    if isinstance(value, Stage | Pipeline):
        uncalled = cast("AnyStage | Pipeline[..., Any]", value)
        raise NotAFlow(uncalled, _how_to_call(uncalled))
    ran_here = plain_run_of(value)
    if inspect.iscoroutine(value):
        ran_here = ran_here or value.cr_code.co_name
        value.close()
    if ran_here is not None:
        raise NotAFlow(value, f"{ran_here} ran here; use {ran_here}.flow(…), or call it in a pipeline")
    if isinstance(value, Mapping):
        return spec_from_node(cast("Mapping[str, Any]", value))
    raise NotAFlow(value, "give it a pipeline's call, such as short_video(url), or stage.flow(…), a Node or a mapping")


def _how_to_call(value: AnyStage | Pipeline[..., Any]) -> str:
    arguments = ", ".join(value.signature.names)
    return f"call it: {value.name}.flow({arguments})" if isinstance(value, Stage) else f"call it: {value.name}({arguments})"
