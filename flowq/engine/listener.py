"""Whom a conversation with the server asks and tells: what the process has room for, and who runs what it claims."""

from __future__ import annotations

from typing import Protocol

import msgspec

from flowq.model.outcome import Claim, Outcome
from flowq.store.wants import Wants


class Taken(msgspec.Struct):
    """The room that is reserved while a call asks for stages.

    Attributes:
        capacity: for how many stages; 0: none.
        wants: of which routes.
        partition: who asks.
        slots: queue → the host's slots of it.
        room: what of the host's own room.
        fits: how many stages that need some of it there may be at most.
        lacks_room: whether there is no room for some of those that need some.
        freed: how often slots or room had been freed before.
        is_partial: whether something is not asked for that there may be room for: another call has it reserved, or it is the turn
            of another partition.
    """

    capacity: int = 0
    wants: list[Wants] = []
    partition: str = ""
    slots: dict[str, int] = {}
    room: dict[str, int] = {}
    fits: int = 0
    lacks_room: bool = False
    freed: int = 0
    is_partial: bool = False

    @property
    def has_reserved(self) -> bool:
        """Whether others of this host may have to do without because of it."""
        return any(self.slots.values()) or any(self.room.values())


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
