"""What stages say of their progress, on its way to the store: the latest of each stage, at most ten times a second."""

from __future__ import annotations

import logging
import time

from flowq.errors import ValueNotStorable
from flowq.model.outcome import Outcome, Progress
from flowq.model.values import sendable

log = logging.getLogger("flowq.engine")

_PROGRESS_SECONDS = 0.1


class LatestProgress:
    """The progress reports of one conversation."""

    def __init__(self) -> None:
        self._latest: dict[tuple[str, int], Progress] = {}
        self._due_at = 0.0

    def keep(self, progress: Progress) -> None:
        """A run tells its progress; what it told before counts no more."""
        self._latest[progress.flow_id, progress.index] = progress

    def forget(self, outcome: Outcome) -> None:
        """A run has ended."""
        if self._latest:
            self._latest.pop((outcome.flow_id, outcome.index), None)

    @property
    def due_in(self) -> float | None:
        """Seconds until some is to be sent; None: there is none."""
        return self._due_at - time.monotonic() if self._latest else None

    def take(self, *, is_last: bool) -> list[Progress]:
        """What to send now; the last call sends whatever there is."""
        now = time.monotonic()
        if not self._latest or (now < self._due_at and not is_last):
            return []
        self._due_at = now + _PROGRESS_SECONDS
        progress, self._latest = [one for one in self._latest.values() if _is_sendable(one)], {}
        return progress


def _is_sendable(progress: Progress) -> bool:
    # One that is not would cost the whole call, and all that the others have done.
    try:
        sendable(progress)
    except ValueNotStorable as error:
        log.error("the progress of stage %d of flow %s is not told: %s", progress.index, progress.flow_id, error.problem)
        return False
    return True
