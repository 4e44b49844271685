"""What runs again when stages of an ended flow are retried: they, and all that was made of their results. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from flowq.model.plan import Plan
from flowq.model.states import StageState


class RestartedStage(msgspec.Struct, frozen=True):
    """A stage that runs again.

    Attributes:
        index: its index in the plan.
        is_ready: whether it can run at once; else it waits for children that run again too.
        done: how many of its children it need not wait for.
    """

    index: int
    is_ready: bool
    done: int


class Restart(msgspec.Struct, frozen=True):
    """A flow after a retry by hand.

    Attributes:
        stages: those that run again.
        unfinished: how many stages then keep the flow from completing.
        failures: how many of these have failed.
        maps: (index, numbers of items that have completed and run again) of maps of which only items run again.
        alone: maps of which those items alone run again, not all that have not completed.
    """

    stages: list[RestartedStage]
    unfinished: int
    failures: int
    maps: list[tuple[int, list[int]]]
    alone: frozenset[int] = frozenset()


def restart(
    plan: Plan, states: Sequence[StageState], chosen: Iterable[int], maps: Mapping[int, list[int]] | None = None,
    alone: frozenset[int] = frozenset(),
) -> Restart:  # fmt: skip
    """What to do so that the chosen stages run again, and after them all stages that use their results.

    Args:
        plan: the flow's.
        states: the state of each stage.
        chosen: indexes.
        maps: index → numbers of completed items, of maps whose items that have not completed run again, and these.
        alone: those of `maps` of which only the numbers run again.
    """
    opened = dict(maps or {})
    again: set[int] = set()
    pending = [*chosen, *(parent for index in opened for parent in plan.stages[index].parents)]
    while pending:
        index = pending.pop()
        if index not in again:
            again.add(index)
            # Hooks only follow each other: one that has completed is not run again for one before it.
            pending += (p for p in plan.stages[index].parents if not plan.stages[p].hook or states[p] != "completed")
    opened = {index: numbers for index, numbers in opened.items() if index not in again}
    waited_for = again | opened.keys()
    stages: list[RestartedStage] = []
    for index in sorted(again):
        stage = plan.stages[index]
        bears = frozenset(stage.tolerates)
        done = sum(
            child not in waited_for
            and (states[child] in ("completed", "skipped") or (states[child] == "failed" and child in bears))
            for child in stage.children
        )
        stages.append(RestartedStage(index, done == len(stage.children), done))
    stand = {index: state for index, state in enumerate(states) if index not in waited_for}
    finished = sum(
        state in ("completed", "skipped") or (state == "failed" and plan.is_tolerated(index)) for index, state in stand.items()
    )
    failures = sum(state == "failed" and not plan.is_tolerated(index) for index, state in stand.items())
    return Restart(stages, len(states) - finished, failures, sorted(opened.items()), alone & opened.keys())
