"""Whether the server knows that this process waits for a wake-up: then it need not be told again with each call."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flowq.store.wants import Wants, served

# Less than the time after which asks who was not woken: so each such question tells it anew, should the server have forgotten.
_KNOWN_SECONDS = 0.9
_KNOWN_MAX = 10


class Parking:
    """What was told, and when."""

    def __init__(self) -> None:
        self._told_at: dict[tuple[bytes, int], float] = {}

    def is_needed(self, wants: Sequence[Wants], wakes: int) -> bool:
        """Whether it has to be told: who was woken waits no more, and who serves other routes waits elsewhere.

        Args:
            wants: what the call asks for.
            wakes: how often the process has been woken so far.
        """
        told_at = self._told_at.get((served(wants), wakes))
        return told_at is None or time.monotonic() - told_at >= _KNOWN_SECONDS

    def told(self, wants: Sequence[Wants], wakes: int) -> None:
        """The server has parked it. `wakes`: as they were when the call was made."""
        if len(self._told_at) >= _KNOWN_MAX:
            self._told_at.clear()
        self._told_at[served(wants), wakes] = time.monotonic()
