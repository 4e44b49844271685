"""Whom a conversation with the server asks and tells: what the process has room for, and who runs what it claims."""

from __future__ import annotations

from typing import Protocol

from flowq.engine.capacity.taken import Taken
from flowq.engine.run.stage_run import RunKey
from flowq.model.outcome import Claim, Outcome


class Room(Protocol):
    """What a worker has room for, asked before each call."""

    def take(self, most: int, partition: str) -> Taken:
        """Reserves room for a call that asks for so many stages at most."""
        ...

    def give_back(self, taken: Taken, claims: list[Claim]) -> bool:
        """Gives back what the claims did not use; returns whether there may be more to claim at once, for it was partial or its
        bounds were narrower than the room."""
        ...

    def ended(self, claim: Claim) -> None:
        """A claim uses no room any more."""
        ...

    def admits(self, partition: str) -> bool:
        """Whether there is room for a stage of this partition; if not, it is noted that it waits for some."""
        ...

    @property
    def patience(self) -> int:
        """How many times as long as others who has nothing to do waits for a wake-up before asking without one."""
        ...

    def leave(self, partition: str) -> None:
        """It does not wait for room any more: others need not wait for its turn."""
        ...


class Listener(Protocol):
    """Told by a conversation what to run, and what to end."""

    def start(self, claim: Claim) -> None:
        """Runs the stage."""
        ...

    def cancel(self, key: RunKey) -> None:
        """Ends a run, if it is here: its stage was cancelled."""
        ...

    def close(self, member: str) -> None:
        """Ends what else runs of a flow that has failed at once or ran out of time, or of a map that has ended."""
        ...

    def refused(self, outcome: Outcome, word: str, holder: str) -> None:
        """An outcome was not accepted: another run holds the stage."""
        ...
