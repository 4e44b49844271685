"""What a process knows of a stage that it runs."""

from __future__ import annotations

import asyncio
import math

import msgspec

from flowq.engine.run.context import StageContext
from flowq.engine.run.stage_clock import StageClock
from flowq.model.outcome import Claim

# What sets a run apart from every other, see `Claim.run`. Its fence alone would not: where a flow was removed and another has its
# id, both count from 1.
RunKey = tuple[str, int, int, str]


class StageRun(msgspec.Struct):
    """A stage that runs in this process.

    Attributes:
        task: in which it runs.
        claim: its claim.
        context: what its function sees, from when it is called.
        clock: its time limits, while its function runs.
        cancelled_at: since when it is cancelled, by `time.monotonic()`; inf: it is not.
        is_given_back: the worker stops, and another is to run it. Kept here: while a run reads its plan or waits for limits it
            has no context, and a cancel may lose its argument on its way.
        is_stopped: whether it was before it had begun.
        has_begun: whether its task has made a step.
    """

    task: asyncio.Task[None]
    claim: Claim
    context: StageContext | None = None
    clock: StageClock | None = None
    cancelled_at: float = math.inf
    is_given_back: bool = False
    is_stopped: bool = False
    has_begun: bool = False

    def begin(self) -> None:
        """Its task makes its first step. Raises CancelledError: it was stopped before."""
        self.has_begun = True
        if self.is_stopped:
            raise asyncio.CancelledError

    def stop(self) -> None:
        """Ends its task. One that has not begun still makes its first step: a task that is cancelled now never would."""
        if self.has_begun:
            self.task.cancel()
        else:
            self.is_stopped = True

    @property
    def ends_at(self) -> float:
        """When it must have ended, by `time.monotonic()`; inf: whenever it has."""
        return math.inf if self.clock is None else self.clock.ends_at
