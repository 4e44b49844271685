"""`Pause`: what is not claimed for the time being, since when, and by whom. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal

import msgspec

from flowq.model.told import as_text

PauseKind = Literal["queue", "pipeline", "flow"]
_CHARS_MAX = 200


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


def as_kept(said: object) -> str:
    """What people say of who did it, or why, as it is kept: its first 200 characters."""
    return as_text(said, _CHARS_MAX)
