"""The time that one attempt of a stage has: until its timeout, and until it has told no progress for too long."""

from __future__ import annotations

import asyncio
import math
import time
from types import TracebackType

from flowq.errors import StageStalled, StageTimedOut
from flowq.model.plan import StagePlan


class StageClock:
    """Ends the block that it stands around, as `asyncio.timeout` does, with StageTimedOut or StageStalled.

    Args:
        stage: whose attempt it is.
    """

    __slots__ = ("_began_at", "_progressed_at", "_stage", "_timeout", "_timer", "has_stalled")

    def __init__(self, stage: StagePlan) -> None:
        self.has_stalled = False
        self._stage = stage
        self._began_at = self._progressed_at = time.monotonic()
        self._timeout: asyncio.Timeout | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def is_limited(self) -> bool:
        """Whether the attempt has to end at all."""
        return self._stage.timeout_ms is not None or self._stage.stall_ms is not None

    @property
    def ends_at(self) -> float:
        """When it has to have ended if it tells no more progress, by `time.monotonic()`; inf: never."""
        return min(self._times_out_at, self._stalls_at)

    @property
    def will_stall(self) -> bool:
        """Whether that would be for want of progress."""
        return self._stalls_at < self._times_out_at

    def progressed(self) -> None:
        """The stage has told progress. From any thread."""
        self._progressed_at = time.monotonic()

    async def __aenter__(self) -> StageClock:
        """The attempt begins."""
        self._began_at = self._progressed_at = time.monotonic()
        if self.is_limited:
            self._timeout = asyncio.timeout(None)
            await self._timeout.__aenter__()
            self._look()
        return self

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """It has ended; or its time has."""
        if self._timeout is None:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None  # it knows the context that it was made in, and so this: no circle is left behind
        try:
            await self._timeout.__aexit__(error_type, error, trace)
        except TimeoutError:
            raise self._out_of_time() from None

    def _look(self) -> None:
        """Ends the attempt, or looks again when its time would be over: progress has moved that since."""
        assert self._timeout is not None
        left = self.ends_at - time.monotonic()
        loop = asyncio.get_running_loop()
        if left > 0:
            self._timer = loop.call_later(left, self._look)
        elif not self._timeout.expired():
            self.has_stalled = self.will_stall
            self._timeout.reschedule(loop.time())

    def _out_of_time(self) -> StageTimedOut | StageStalled:
        return out_of_time(self._stage, has_stalled=self.has_stalled)

    @property
    def _times_out_at(self) -> float:
        return math.inf if self._stage.timeout_ms is None else self._began_at + self._stage.timeout_ms / 1000

    @property
    def _stalls_at(self) -> float:
        return math.inf if self._stage.stall_ms is None else self._progressed_at + self._stage.stall_ms / 1000


def out_of_time(stage: StagePlan, *, has_stalled: bool) -> StageTimedOut | StageStalled:
    """The error of an attempt that was ended for the time it took."""
    if has_stalled:
        return StageStalled(stage.name, (stage.stall_ms or 0) / 1000)
    return StageTimedOut(stage.name, (stage.timeout_ms or 0) / 1000)
