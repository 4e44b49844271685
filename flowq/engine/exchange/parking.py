"""Whether the server knows that this process waits for a wake-up: then it need not be told again with each call."""

from __future__ import annotations

import time
from collections.abc import Sequence

from flowq.store.wants import Wants, served

# Less than the time after which asks who was not woken: so each such question tells it anew, should the server have forgotten.
_KNOWN_SECONDS = 0.9


class Parking:
    """What was told last, and when."""

    def __init__(self) -> None:
        self._served = b""
        self._wakes = -1
        self._told_at = 0.0

    def is_needed(self, wants: Sequence[Wants], wakes: int) -> bool:
        """Whether it has to be told: who was woken waits no more, and who serves other routes waits elsewhere.

        Args:
            wants: what the call asks for.
            wakes: how often the process has been woken so far.
        """
        is_known = wakes == self._wakes and time.monotonic() - self._told_at < _KNOWN_SECONDS
        return not is_known or served(wants) != self._served

    def told(self, wants: Sequence[Wants], wakes: int) -> None:
        """The server has parked it. `wakes`: as they were when the call was made."""
        self._served, self._wakes, self._told_at = served(wants), wakes, time.monotonic()
