"""When a flow begins, and when it must have ended: as users write it, and as it is stored. Pure: whose clock, says the server."""

from __future__ import annotations

from datetime import datetime
from typing import TypeAlias

import msgspec

from flowq.errors import InvalidValue
from flowq.model.duration import Duration, to_ms

Deadline: TypeAlias = Duration | datetime

# What a flow's record says when its deadline has ended it; scripts/promote.lua writes it.
OUT_OF_TIME = "its deadline passed"


class Timing(msgspec.Struct, frozen=True, array_like=True):
    """Lengths and moments in milliseconds, by the server's clock; 0: not given.

    Attributes:
        delay_ms: it begins so long after it was added.
        start_at: it begins then; at once if that is over.
        deadline_ms: so long after it was added, what has not completed of it is cancelled, and it has failed.
        deadline_at: the same as a moment.
    """

    delay_ms: int = 0
    start_at: int = 0
    deadline_ms: int = 0
    deadline_at: int = 0

    @classmethod
    def checked(cls, delay: Duration | None = None, start_at: datetime | None = None, deadline: Deadline | None = None) -> Timing:
        """The timing as users write it, or InvalidValue."""
        if delay is not None and start_at is not None:
            raise InvalidValue("start_at", start_at, "either start_at= or delay=, not both")
        deadline_ms, deadline_at = deadline_of(deadline)
        timing = cls(
            0 if delay is None else to_ms(delay, "delay"),
            0 if start_at is None else moment_ms(start_at, "start_at"),
            deadline_ms,
            deadline_at,
        )
        ends_first = (0 < timing.deadline_ms <= timing.delay_ms) or (0 < timing.deadline_at <= timing.start_at)
        if ends_first:
            raise InvalidValue("deadline", deadline, "a deadline after the flow begins; as a duration it counts from the add")
        return timing

    @property
    def is_given(self) -> bool:
        """Whether anything of it was."""
        return self != _AT_ONCE


_AT_ONCE = Timing()


def deadline_of(deadline: Deadline | None) -> tuple[int, int]:
    """(how long after the add, when): one of them is 0, or both. Raises InvalidValue."""
    if deadline is None:
        return 0, 0
    if isinstance(deadline, datetime):
        return 0, moment_ms(deadline, "deadline")
    return to_ms(deadline, "deadline", least_ms=1), 0


def moment_ms(value: object, field: str) -> int:
    """A moment as milliseconds since 1970. Raises InvalidValue where it is no datetime, or one without a time zone."""
    if not isinstance(value, datetime) or value.tzinfo is None or value.utcoffset() is None or value.year < 1970:
        raise InvalidValue(field, value, "a datetime with a time zone, such as datetime(2030, 1, 31, 2, 0, tzinfo=UTC)")
    return max(1, round(value.timestamp() * 1000))
