"""What is reserved of a process's room while a call asks for stages."""

from __future__ import annotations

import msgspec

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
    def is_whole(self) -> bool:
        """Whether nothing that is served is left out."""
        return not (self.is_partial or self.lacks_room or 0 in self.slots.values())

    @property
    def has_reserved(self) -> bool:
        """Whether others of this host may have to do without because of it."""
        return any(self.slots.values()) or any(self.room.values())
