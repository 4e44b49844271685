"""How far a stage is, as it tells it itself: the part of `context()` that people see while it runs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import SupportsFloat

from flowq.errors import InvalidValue
from flowq.model.told import as_number, as_text

_MESSAGE_CHARS_MAX = 200
# One thread at a time: else what one has told is overtaken by what another told before. One for all, as nobody holds it for long.
_telling = threading.RLock()


class Telling:
    """A run of a stage, as far as it tells its progress."""

    __slots__ = ()

    # `StageContext` has them: each call that a run costs is one per stage, and only one base of a class may have slots.
    _on_progress: Callable[[float, str], None] | None
    _told: tuple[float, str]

    def progress(self, fraction: SupportsFloat, message: str | None = "") -> None:
        """Tells how far the stage is. Cheap: at most ten reports a second leave the process.

        Progress never goes back within a run; a new attempt, or a stage that is resumed, begins anew.

        Args:
            fraction: from 0 to 1, also numpy's. What is less than was told before, NaN or infinite leaves it where it was; more
                than 1 is 1.
            message: one line for people, at most 200 characters are kept.

        Raises:
            InvalidValue: the fraction is no number.
        """
        told = as_number(fraction)
        if told is None:
            raise InvalidValue("progress", fraction, "a number from 0 to 1")
        text = as_text(message, _MESSAGE_CHARS_MAX)
        with _telling:
            known, _ = self._told
            # `max` keeps its first value beside NaN.
            self._told = known if told == math.inf else float(min(1, max(known, told))), text
            self.show_wait("")

    def show_wait(self, what: str) -> None:
        """Shows what the stage waits for in place of what it told last; "": that again. Called by limits."""
        if self._on_progress is not None:
            with _telling:
                self._on_progress(self._told[0], what or self._told[1])
