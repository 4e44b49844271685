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
    """

    task: asyncio.Task[None]
    claim: Claim
    context: StageContext | None = None
    clock: StageClock | None = None
    cancelled_at: float = math.inf
    is_given_back: bool = False

    @property
    def ends_at(self) -> float:
        """When it must have ended, by `time.monotonic()`; inf: whenever it has."""
        return math.inf if self.clock is None else self.clock.ends_at
