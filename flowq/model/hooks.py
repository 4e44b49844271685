"""What runs after the end of a flow: what it is told, how its own flow is called, and which stages were undone. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from flowq.model.plan import AT_END, HOOKS_ALWAYS, HOOKS_UNLESS_COMPLETED, Plan
from flowq.model.snapshot import StageSnapshot


class FlowEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How a flow ended: what the stage gets that is given as `@pipeline(finally_=…)`.

    Attributes:
        flow_id: the flow's id.
        pipeline: its pipeline's name.
        state: what became of it.
        cause: why it did not complete, in one line: `pay: CardDeclined: no funds`, the reason of a cancel, `its deadline passed`;
            "" where nothing is known, and of flows that completed.
    """

    flow_id: str
    pipeline: str
    state: Literal["completed", "failed", "cancelled"]
    cause: str = ""


def may_have_hooks(digest: str) -> bool:
    """Whether flows of the plan with this digest have hooks."""
    return digest.endswith((HOOKS_ALWAYS, HOOKS_UNLESS_COMPLETED))


def hooks_id(flow_id: str, run: int) -> str:
    """The id of the flow of the hooks of a run of a flow."""
    return f"{flow_id}^end{run if run > 1 else ''}"


def due_member(flow_id: str, run: int) -> str:
    """What stands in the index of what is closing while these hooks are to be added."""
    return f"^{run}:{flow_id}"


def named_in(member: str) -> tuple[str, int]:
    """The flow and the run that a member means."""
    run, _, flow_id = member.removeprefix("^").partition(":")
    return flow_id, int(run)


def undone_by(hooks: Iterable[StageSnapshot], plan: Plan) -> list[int]:
    """The indexes of the stages and items of a flow that its hooks have undone.

    Args:
        hooks: the stages of the flow of its hooks.
        plan: the plan of the flow itself.
    """
    names = [hook.hook for hook in hooks if hook.state == "completed" and hook.hook not in ("", AT_END)]
    return [index for name in names if (index := plan.find(name)) is not None]
