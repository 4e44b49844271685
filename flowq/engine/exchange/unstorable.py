"""What is reported instead of an outcome that can't be stored."""

from __future__ import annotations

import logging

from flowq.engine.run.policy import failed_for_good
from flowq.errors import CorruptState, FlowqError, ValueNotStorable
from flowq.model.outcome import Fail, Outcome, Release

log = logging.getLogger("flowq.engine")


class Unstorable:
    """Says of each run once, in the log, that what it did can't be stored."""

    def __init__(self) -> None:
        self._said: set[tuple[str, int, int, str]] = set()

    def instead_of(self, outcome: Outcome, damage: CorruptState | ValueNotStorable) -> Outcome:
        """A failure that says why; or the same outcome, to be tried again later.

        What ends a run without a result is tried until somebody has mended the data, or this process ends and its stages are
        rescued: else it would count as running for ever.
        """
        run = outcome.flow_id, outcome.index, outcome.fence, outcome.nonce
        reason = str(damage.__cause__ or damage.problem)
        error: FlowqError = CorruptState(outcome.flow_id, f"what stage {outcome.index} did can't be stored", reason)
        if isinstance(damage, ValueNotStorable):
            error = ValueNotStorable(f"stage {outcome.index} of flow {outcome.flow_id}", "what it told", reason)
        if run not in self._said:
            self._said.add(run)
            log.error("%s", error.problem)
        is_without_result = isinstance(outcome, Fail | Release) and isinstance(damage, CorruptState)
        return outcome if is_without_result else failed_for_good(error, run)
