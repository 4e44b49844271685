"""`Pause`: what is not claimed for the time being, since when, and by whom. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

PauseKind = Literal["queue", "pipeline", "flow"]


class Pause(msgspec.Struct, frozen=True):
    """A queue, a pipeline or a flow that is paused.

    Attributes:
        kind: which of them.
        name: the queue's or pipeline's name, or the flow's id.
        since: when it was paused, milliseconds since 1970.
        by: who did it, as they said; may be empty.
    """

    kind: PauseKind
    name: str
    since: int
    by: str = ""

    @property
    def sentence(self) -> str:
        """The same for people."""
        since = f"{datetime.fromtimestamp(self.since / 1000, UTC):%Y-%m-%d %H:%M} UTC"
        return f"{self.kind} {self.name} is paused since {since}{f', by {self.by}' if self.by else ''}"
