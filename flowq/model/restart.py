"""What runs again when stages of an ended flow are retried: they, and all that was made of their results. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
    """

    stages: list[RestartedStage]
    unfinished: int
    failures: int


def restart(plan: Plan, states: Sequence[StageState], chosen: Iterable[int]) -> Restart:
    """What to do so that the chosen stages run again, and after them all stages that use their results.

    Args:
        plan: the flow's.
        states: the state of each stage.
        chosen: indexes.
    """
    again: set[int] = set()
    pending = list(chosen)
    while pending:
        index = pending.pop()
        if index not in again:
            again.add(index)
            pending += plan.stages[index].parents
    stages: list[RestartedStage] = []
    for index in sorted(again):
        stage = plan.stages[index]
        bears = frozenset(stage.tolerates)
        done = sum(
            child not in again and (states[child] in ("completed", "skipped") or (states[child] == "failed" and child in bears))
            for child in stage.children
        )
        stages.append(RestartedStage(index, done == len(stage.children), done))
    stand = {index: state for index, state in enumerate(states) if index not in again}
    finished = sum(
        state in ("completed", "skipped") or (state == "failed" and plan.is_tolerated(index)) for index, state in stand.items()
    )
    failures = sum(state == "failed" and not plan.is_tolerated(index) for index, state in stand.items())
    return Restart(stages, len(states) - finished, failures)
