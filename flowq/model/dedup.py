"""`Dedup`: what becomes of a flow that is added while there is another of its key: dropped, put in its place, or kept. Pure."""

from __future__ import annotations

from typing import Literal

import msgspec

from flowq.errors import InvalidValue
from flowq.model.duration import Duration, to_ms
from flowq.model.names import check_flow_id

# What became of an `add`: a new flow; a new one that waits for another of its key; it took the place of one that had not begun;
# or nothing was added, because there is one.
Addition = Literal["added", "kept", "replaced", "found"]
DedupMode = Literal["once", "window", "debounce", "keep_last"]

# The letters under which scripts/once.lua knows them.
MODE_LETTER: dict[DedupMode, str] = {"once": "u", "window": "w", "debounce": "d", "keep_last": "k"}


class Dedup(msgspec.Struct, frozen=True):
    """Under which key a flow is the only one of its pipeline, and what becomes of others. At most one of `window`, `debounce` and
    `keep_last` is given; with the key alone others are not added until the first has ended.

    Attributes:
        key: what makes two flows the same, such as `user:7`.
        window: for so long after the first was added, others are not, whatever became of it.
        debounce: the flow begins when nothing was added under its key for so long. Until it has begun, one that is added takes
            its place, with its own inputs and options, and the wait begins anew; after that one waits by itself.
        max_wait: with `debounce`: so long after the first was added it begins however often it was replaced; None: no bound.
        keep_last: while one of the key has not ended, the last that was added waits for that, and then begins; one that
            waited before makes room for it.

    Raises:
        InvalidValue: the key can't be one, a duration is none, or they don't go together.
    """

    key: str
    window: Duration | None = None
    debounce: Duration | None = None
    max_wait: Duration | None = None
    keep_last: bool = False

    def __post_init__(self) -> None:
        """Refuses what makes no sense where it is written."""
        check_flow_id(self.key, "dedup key")
        if type(self.keep_last) is not bool:
            raise InvalidValue("dedup keep_last", self.keep_last, "True or False")
        if (self.window is not None) + (self.debounce is not None) + self.keep_last > 1:
            raise InvalidValue("dedup", self.key, "one of window=, debounce= and keep_last=, not several")
        if self.max_wait is not None and self.debounce is None:
            raise InvalidValue("dedup max_wait", self.max_wait, "debounce= beside it")
        if self.window is not None:
            to_ms(self.window, "dedup window", least_ms=1)
        if self.debounce is not None:
            to_ms(self.debounce, "dedup debounce", least_ms=1)
        if 0 < self.longest_ms < self.wait_ms:
            raise InvalidValue("dedup max_wait", self.max_wait, "as long as debounce at least")

    def name(self, pipeline: str) -> str:
        """The key among those of all pipelines."""
        return f"{pipeline}:{self.key}"

    @property
    def mode(self) -> DedupMode:
        """What becomes of others: `once`: not added until the first has ended; `window`, `debounce`, `keep_last`."""
        if self.keep_last:
            return "keep_last"
        return "window" if self.window is not None else "debounce" if self.debounce is not None else "once"

    @property
    def waits(self) -> bool:
        """Whether a flow may have to wait because of it."""
        return self.mode in ("debounce", "keep_last")

    @property
    def wait_ms(self) -> int:
        """The window, or how long it must be quiet; 0: neither is given."""
        duration = self.debounce if self.window is None else self.window
        return 0 if duration is None else to_ms(duration, "dedup", least_ms=1)

    @property
    def longest_ms(self) -> int:
        """How long a debounced flow waits at most; 0: no bound."""
        return 0 if self.max_wait is None else to_ms(self.max_wait, "dedup max_wait", least_ms=1)


class DedupSnapshot(msgspec.Struct, frozen=True):
    """Under which key a flow was added.

    Attributes:
        key: the key, among those of its pipeline.
        mode: `once` · `window` · `debounce` · `keep_last`.
        since: when the first was added of those whose place it took, or it itself; milliseconds since 1970.
        waits_for: the flow whose end it waits for, or has waited for; empty: none.
    """

    key: str
    mode: str
    since: int
    waits_for: str = ""


def check_dedup(value: object, flow_id: object, delay: object = None, start_at: object = None) -> Dedup | None:
    """Returns it, or raises InvalidValue: it is something else; beside an id, which by itself makes a flow the only one; or one
    that says when the flow begins, beside something else that does."""
    if value is None:
        return None
    if not isinstance(value, Dedup):
        raise InvalidValue("dedup", value, 'Dedup("user:7"), or Dedup("user:7", window="10m")')
    if flow_id is not None:
        raise InvalidValue("dedup", value, "no id beside it: the flow that stands in its way has an id of its own")
    if value.waits and not (delay is None and start_at is None):
        raise InvalidValue(
            "dedup", value, "no delay= or start_at= beside debounce= or keep_last=, which say when the flow begins"
        )
    return value
