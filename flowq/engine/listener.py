"""Who runs what a conversation with the server claims."""

from __future__ import annotations

from typing import Protocol

from flowq.model.outcome import Claim, Outcome


class Listener(Protocol):
    """Told by a conversation what to run, and what to end."""

    def start(self, claim: Claim) -> None:
        """Runs the stage."""
        ...

    def cancel(self, flow_id: str, index: int, fence: int) -> None:
        """Ends a stage that runs here and whose flow was cancelled."""
        ...

    def close(self, flow_id: str, stages: int) -> None:
        """Ends what else runs of a flow that has failed at once."""
        ...

    def refused(self, outcome: Outcome, word: str, holder: str) -> None:
        """An outcome was not accepted: another run holds the stage."""
        ...
