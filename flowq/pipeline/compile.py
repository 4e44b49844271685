"""Calls to a plan: gives each stage its name, and each child the parents that wait for it. Keeps compiled plans."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from flowq.model.keep import Keep
from flowq.model.plan import Binding, Hook, Plan, StagePlan

# A body may take a different shape for each input (a loop over a list); the common shapes stay, the odd ones are rebuilt.
_PLANS_MAX = 64
# Above this, keeping the plan costs more memory than compiling it again costs time.
_KEPT_STAGES_MAX = 1_024


class Call(NamedTuple):
    """One call of a stage in a body. A tuple, because hashing the calls finds the compiled plan.

    Attributes:
        template: the stage without neighbours; its name is the author's, or the function's.
        bindings: which results fill which arguments.
        after: stages that it waits for without using their results: index, and whether their failure is tolerated.
    """

    template: StagePlan
    bindings: tuple[Binding, ...]
    after: tuple[tuple[int, bool], ...]


def compiled(
    pipeline: str,
    calls: Sequence[Call],
    output: tuple[Binding, ...],
    *,
    fail_fast: bool = False,
    finish_first: bool = False,
    keep: Keep | None = None,
    finally_: Hook | None = None,
) -> Plan:
    """The plan of these calls, which stand in topological order."""
    parents: list[list[int]] = [[] for _ in calls]
    children: list[tuple[int, ...]] = []
    tolerates: list[tuple[int, ...]] = []
    for index, call in enumerate(calls):
        uses = [*((binding.child, binding.on_failure != "fail") for binding in call.bindings), *call.after]
        needs = {child for child, is_tolerated in uses if not is_tolerated}
        waits_for = tuple(sorted({child for child, _ in uses}))
        children.append(waits_for)
        tolerates.append(tuple(child for child in waits_for if child not in needs))
        for child in waits_for:
            parents[child].append(index)
    names = _unique_names([call.template.name for call in calls])
    stages = tuple(
        msgspec.structs.replace(
            call.template,
            name=names[index],
            bindings=call.bindings,
            children=children[index],
            parents=tuple(parents[index]),
            tolerates=tolerates[index],
        )
        for index, call in enumerate(calls)
    )
    return Plan(pipeline, stages, output, fail_fast, finish_first, keep, finally_)


class CompiledPlans:
    """The plans of one pipeline by the structure of their calls, so that a flow of a known shape compiles nothing."""

    def __init__(
        self,
        pipeline: str,
        *,
        fail_fast: bool = False,
        finish_first: bool = False,
        keep: Keep | None = None,
        finally_: Hook | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._fail_fast = fail_fast
        self._finish_first = finish_first
        self._keep = keep
        self._finally = finally_
        self._plans: dict[tuple[tuple[Call, ...], tuple[Binding, ...]], Plan] = {}

    def plan(self, calls: Sequence[Call], output: tuple[Binding, ...]) -> Plan:
        """The plan of these calls, compiled once per structure."""
        key = (tuple(calls), output)
        plan = self._plans.get(key)
        if plan is None:
            plan = compiled(
                self._pipeline, calls, output, fail_fast=self._fail_fast, finish_first=self._finish_first, keep=self._keep,
                finally_=self._finally,
            )  # fmt: skip
            if len(calls) <= _KEPT_STAGES_MAX:
                if len(self._plans) >= _PLANS_MAX:
                    self._plans.pop(next(iter(self._plans)), None)
                self._plans[key] = plan
        return plan


def _unique_names(wanted: Sequence[str]) -> list[str]:
    """`encode`, `encode-2`, … in order; a number that somebody took as a name is passed over."""
    taken: set[str] = set()
    wanted_by_author = set(wanted)
    counts: dict[str, int] = {}
    names: list[str] = []
    for name in wanted:
        unique = name
        while unique in taken or (unique != name and unique in wanted_by_author):
            counts[name] = counts.get(name, 1) + 1
            unique = f"{name}-{counts[name]}"
        taken.add(unique)
        names.append(unique)
    return names
