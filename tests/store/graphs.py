"""Flows for tests of the store: graphs drawn by hand, without functions, literals only where a test needs them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from flowq.model.plan import Binding, Plan, StagePlan
from flowq.model.spec import FlowOptions, FlowSpec

pack = msgspec.msgpack.encode


def drawn(
    children_of: Mapping[str, Sequence[str]],
    *,
    inputs: object = None,
    priority: int = 0,
    pipeline: str = "drawn",
    **of_stage: Any,
) -> FlowSpec[Any]:
    """A flow whose stages are the keys, each waiting for, and taking the results of, those it is mapped to.

    Args:
        children_of: stage → its children; children first.
        inputs: what tells this flow from others of the same graph.
        priority: the flow's.
        pipeline: the pipeline's name.
        of_stage: options of all stages, such as `attempts=3`.
    """
    index_of = {name: index for index, name in enumerate(children_of)}
    stages = tuple(
        StagePlan(
            name,
            name.partition("-")[0],
            children=tuple(index_of[child] for child in children),
            bindings=tuple(Binding((f"a{index_of[child]}",), index_of[child]) for child in children),
            parents=tuple(index_of[parent] for parent, others in children_of.items() if name in others),
            **of_stage,
        )
        for name, children in children_of.items()
    )
    plan = Plan(pipeline, stages, (Binding((), len(stages) - 1),))
    return FlowSpec(plan, {}, pack(inputs), options=FlowOptions(priority=priority))


def one_stage(**options: Any) -> FlowSpec[Any]:
    """A flow of the single stage `a`."""
    return drawn({"a": []}, **options)


def chain(length: int, **options: Any) -> FlowSpec[Any]:
    """`s-0 → s-1 → …`."""
    return drawn({f"s-{number}": [f"s-{number - 1}"] if number else [] for number in range(length)}, **options)


def diamond(**options: Any) -> FlowSpec[Any]:
    """`a → (b ∥ c) → d`."""
    return drawn({"a": [], "b": ["a"], "c": ["a"], "d": ["b", "c"]}, **options)


def wide(width: int, *, inputs: object = None, literals: bool = False) -> FlowSpec[Any]:
    """`width` stages that wait for nothing, and one that waits for all of them."""
    leaves = tuple(StagePlan(f"leaf-{number}", "leaf", parents=(width,)) for number in range(width))
    bindings = tuple(Binding(("all", number), number) for number in range(width))
    top = StagePlan("top", "top", bindings=bindings, children=tuple(range(width)))
    plan = Plan("wide", (*leaves, top), (Binding((), width),))
    given = {number: pack({"n": number}) for number in range(width)} if literals else {}
    return FlowSpec(plan, given, pack(inputs))
