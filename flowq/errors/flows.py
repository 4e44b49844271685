"""What asking for a flow may raise: its id, its stages, how it ended."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.errors.root import FlowqError, shown

_IDS_MAX = 5


class FlowConflict(FlowqError):
    """The id belongs to a flow of another pipeline or with other inputs.

    Attributes:
        flow_id: the id; the first one, where flows were added together.
        flow_ids: all ids that are taken. The other flows of the call were added.
    """

    def __init__(
        self, flow_id: str, difference: str = "of another pipeline or with other inputs", others: Sequence[str] = ()
    ) -> None:
        listed = ", ".join(map(repr, others[:_IDS_MAX])) + (", …" if len(others) > _IDS_MAX else "")
        super().__init__(
            f"flow id {flow_id!r} is taken by a flow {difference}"
            + (f" ({len(others)} more are taken: {listed})" if others else ""),
            f"use another id, or look at the flow that has it: `flowq inspect {flow_id}`",
        )
        self.flow_id = flow_id
        self.flow_ids = (flow_id, *others)


class RetryOutOfTurn(FlowqError):
    """The flow can't be retried now: what runs after its end has not ended; it is that, and its flow was retried since; or
    another flow of its `Dedup` key has not ended.

    Attributes:
        flow_id: the flow.
        other: the flow in its way.
    """

    def __init__(self, flow_id: str, other: str, *, is_of_its_key: bool = False) -> None:
        if is_of_its_key:
            why = f"flow {other!r}, which was added under the same key, has not ended"
            remedy = f"wait for it, or end it: `flowq cancel '{other}'`"
        elif other.startswith(flow_id):
            why = f"what runs after its end has not ended: flow {other!r}"
            remedy = f"wait for it, or end it: `flowq cancel '{other}'`"
        else:
            why = f"flow {other!r}, whose end it followed, was retried since"
            remedy = "what it did not undo is undone should that flow fail again"
        super().__init__(f"flow {flow_id!r} can't be retried now: {why}", remedy)
        self.flow_id = flow_id
        self.other = other


class FlowNotFound(FlowqError):
    """No flow has this id.

    Args:
        flow_id: the id.
        archive: where flows are written before they are removed, if they are.
    """

    def __init__(self, flow_id: str, archive: str = "") -> None:
        pruned = f"been pruned, and then stands in a file below {archive}" if archive else "been pruned"
        super().__init__(
            f"no flow {flow_id!r} here", f"it may have {pruned}, or live in another namespace or server: see `flowq list`"
        )


class FlowNotMade(FlowNotFound):
    """Somebody has run its schedule by hand, and no worker has made the flow yet; or it was cancelled before one had.

    Attributes:
        flow_id: the id that it will have, or would have had.
        why: why nobody makes it now; empty: a worker that knows its pipeline is there, and looks once a second.
        is_cancelled: it is not made any more.
    """

    def __init__(self, flow_id: str, why: str = "", *, is_cancelled: bool = False) -> None:
        if is_cancelled:
            FlowqError.__init__(self, f"flow {flow_id!r} was cancelled before it was made", "`flowq schedule run` makes another")
        else:
            FlowqError.__init__(
                self,
                f"flow {flow_id!r} is not made yet" + (f": {why}" if why else ""),
                "`result`, `events` and `flowq watch` wait until a worker that knows its pipeline has made it",
            )
        self.flow_id = flow_id
        self.why = why
        self.is_cancelled = is_cancelled


class AmbiguousFlowId(FlowqError):
    """More than one flow id begins with this prefix."""

    def __init__(self, prefix: str, candidates: Sequence[str]) -> None:
        super().__init__(f"{prefix!r} is the beginning of {len(candidates)} flow ids", f"one of: {', '.join(candidates[:5])}")


class StageNotFound(FlowqError):
    """The flow has no such stage."""

    def __init__(self, flow_id: str, stage: str, names: Sequence[str]) -> None:
        super().__init__(f"flow {flow_id!r} has no stage {stage!r}", f"its stages: {', '.join(names[:20])}")


def _shortened(flow_id: str) -> str:
    """The id of a flow deep in a tree without those between: what failed must stand within the length of a message."""
    root, mark, name = flow_id.partition("^")[0], "^…^", flow_id.rpartition("^")[2]
    return flow_id if len(flow_id) <= 100 or root == name else f"{root}{mark}{name}"


class FlowFailed(FlowqError):
    """The flow failed.

    Attributes:
        flow_id: the flow.
        stage: the stage whose failure is the root cause.
        error_type: the exception's type, such as `ValueError`.
        message: the exception's text.
        traceback: the stage's traceback, at most 3,000 characters.
    """

    def __init__(self, flow_id: str, stage: str, error_type: str, message: str, traceback: str = "") -> None:
        super().__init__(
            f"flow {_shortened(flow_id)!r} failed at {stage}: {error_type}: {message}",
            f"see `flowq inspect {flow_id}`; `flowq retry {flow_id}` runs only what has not completed",
        )
        self.flow_id = flow_id
        self.stage = stage
        self.error_type = error_type
        self.message = message
        self.traceback = traceback


class FlowCancelled(FlowqError):
    """The flow was cancelled."""

    def __init__(self, flow_id: str, reason: str) -> None:
        super().__init__(f"flow {flow_id!r} was cancelled{': ' + reason if reason else ''}")
        self.flow_id = flow_id
        self.reason = reason


class FlowTimedOut(FlowqError, TimeoutError):
    """`result(timeout=…)` ran out. The flow itself goes on."""

    def __init__(self, flow_id: str, seconds: float) -> None:
        super().__init__(f"flow {flow_id!r} has not ended after {seconds:g} s", "it goes on: wait longer, or cancel it")


class ScheduleNotFound(FlowqError):
    """There is no schedule of this id."""

    def __init__(self, schedule_id: str) -> None:
        super().__init__(f"there is no schedule {shown(schedule_id)}", "see `flowq schedule list`")
        self.schedule_id = schedule_id


class FlowDeadlinePassed(FlowFailed):
    """The flow had not completed at its deadline."""

    def __init__(self, flow_id: str) -> None:
        FlowqError.__init__(
            self,
            f"flow {_shortened(flow_id)!r} failed: its deadline passed",
            f"see `flowq inspect {flow_id}`; `flowq retry {flow_id}` runs what has not completed, without a deadline",
        )
        self.flow_id = flow_id
        self.stage = self.traceback = ""
        self.error_type = "FlowDeadlinePassed"
        self.message = "its deadline passed"


class SignalConflict(FlowqError):
    """Another value was sent under this name before: the first counts."""

    def __init__(self, flow_id: str, signal: str) -> None:
        super().__init__(
            f"flow {flow_id!r} has got signal {signal!r} with another value", "the first value counts; use another name for more"
        )
        self.flow_id = flow_id
        self.signal = signal


class FlowHasEnded(FlowqError):
    """The flow has ended, so nothing in it waits for what was sent."""

    def __init__(self, flow_id: str, state: str) -> None:
        super().__init__(f"flow {flow_id!r} is {state}: nothing in it waits any more", "retry it first, if it is to run again")
        self.flow_id = flow_id
        self.state = state
