"""Whom a conversation with the server asks and tells: what the process has room for, and who runs what it claims."""

from __future__ import annotations

from typing import Protocol

from flowq.model.outcome import Claim, Outcome
from flowq.store.store import Wants


class Room(Protocol):
    """What a worker has room for, asked before each call."""

    def take(self, most: int, partition: str) -> tuple[int, list[Wants]]:
        """Reserves room: how many stages at most, and of which routes. (0, []): none, or it is the turn of another partition."""
        ...

    def give_back(self, taken: int, wants: list[Wants], claims: list[Claim]) -> None:
        """Gives back what the claims did not use."""
        ...

    def ended(self, claim: Claim) -> None:
        """A claim uses no room any more."""
        ...

    def admits(self, partition: str) -> bool:
        """Whether there is room for a stage of this partition; if not, it is noted that it waits for some."""
        ...

    def leave(self, partition: str) -> None:
        """It does not wait for room any more: others need not wait for its turn."""
        ...


class Listener(Protocol):
    """Told by a conversation what to run, and what to end."""

    def start(self, claim: Claim) -> None:
        """Runs the stage."""
        ...

    def cancel(self, flow_id: str, index: int, fence: int) -> None:
        """Ends a stage that runs here and whose flow was cancelled."""
        ...

    def close(self, member: str) -> None:
        """Ends what else runs of a flow that has failed at once or ran out of time, or of a map that has ended."""
        ...

    def refused(self, outcome: Outcome, word: str, holder: str) -> None:
        """An outcome was not accepted: another run holds the stage."""
        ...
