"""`Keep`: for how long, and how many, flows are kept when they have ended; `KeepSettings`: where they do not say so. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypedDict, cast

import msgspec

from flowq.errors import InvalidValue
from flowq.model.duration import Duration, to_ms

MOST_MAX = 100_000_000


class KeepOptions(TypedDict, total=False):
    """How users write it: lengths as everywhere, counts as whole numbers."""

    completed: Duration
    failed: Duration
    cancelled: Duration
    completed_most: int
    failed_most: int
    cancelled_most: int


class Keep(msgspec.Struct, frozen=True, array_like=True):
    """What is kept of a pipeline's flows; None: as the namespace says. Built with `checked`.

    Attributes:
        completed_ms, failed_ms, cancelled_ms: for how long, counted from the flow's end.
        completed_most, failed_most, cancelled_most: how many at most, the newest; with several partitions each has its share.
    """

    completed_ms: int | None = None
    failed_ms: int | None = None
    cancelled_ms: int | None = None
    completed_most: int | None = None
    failed_most: int | None = None
    cancelled_most: int | None = None

    @classmethod
    def checked(cls, given: object) -> Keep:
        """The struct for what a user wrote.

        Raises:
            InvalidValue: it says something else, or something out of range.
        """
        known = list(KeepOptions.__annotations__)
        options = cast("Mapping[str, Any]", given)
        if not isinstance(given, Mapping) or not set(options) <= set(known):
            raise InvalidValue("keep", options, f'a dict such as {{"completed": "3d"}}, with some of {", ".join(known)}')
        fields = dict[str, int]()
        for name, value in options.items():
            if name.endswith("_most"):
                fields[name] = check_most(f"keep {name}", value)
            else:
                fields[f"{name}_ms"] = to_ms(value, f"keep {name}")
        return cls(**fields)

    def or_else(self, other: Keep) -> Keep:
        """This, and where it says nothing, the other."""
        given = {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}
        return msgspec.structs.replace(other, **given)

    @property
    def has_ages(self) -> bool:
        """Whether it says for how long."""
        return (self.completed_ms, self.failed_ms, self.cancelled_ms) != (None, None, None)

    @property
    def has_counts(self) -> bool:
        """Whether it says how many."""
        return (self.completed_most, self.failed_most, self.cancelled_most) != (None, None, None)

    def is_over(self, state: str, age_ms: float, newer: int, partitions: int) -> bool:
        """Whether a flow need not be kept any longer.

        Args:
            state: how it ended.
            age_ms: since when.
            newer: how many newer flows of its pipeline and partition ended so.
            partitions: over how many partitions flows are spread.
        """
        kept_ms: int | None = getattr(self, f"{state}_ms")
        most: int | None = getattr(self, f"{state}_most")
        return (kept_ms is not None and age_ms > kept_ms) or (most is not None and newer >= -(-most // partitions))


class KeepSettings(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of flows that have ended, and of events: `[keep]` in flowq.toml, `FLOWQ_KEEP_*` in the environment.

    A pipeline may say otherwise for its flows.

    Attributes:
        completed_ms: how long completed flows are kept.
        failed_ms: how long failed ones are.
        cancelled_ms: how long cancelled ones are.
        completed_most: how many completed flows are kept of each pipeline; None: no limit.
        failed_most: how many failed ones are.
        cancelled_most: how many cancelled ones are.
        archive: whether a flow is written to the artifact storage, under `archive/`, before it is removed.
        artifacts: whether artifacts stay when their flow is removed.
        logs_ms: how long what stages logged is kept after their flow has ended, to the hour; None: as long as the flow.
        events_ms: how long events are kept, for those who look back.
        events_most: how many entries of events are kept in each partition, each with some events; at most 200,000.
    """

    completed_ms: int = 3 * 86_400_000
    failed_ms: int = 14 * 86_400_000
    cancelled_ms: int = 14 * 86_400_000
    completed_most: int | None = None
    failed_most: int | None = None
    cancelled_most: int | None = None
    archive: bool = False
    artifacts: bool = True
    logs_ms: int | None = None
    events_ms: int = 3_600_000
    events_most: int = 50_000

    @property
    def counts(self) -> Keep:
        """How many are kept."""
        return Keep(None, None, None, self.completed_most, self.failed_most, self.cancelled_most)


def check_most(field: str, value: object) -> int:
    """A count of flows, or InvalidValue."""
    if type(value) is not int or not 0 <= value <= MOST_MAX:
        raise InvalidValue(field, value, f"a whole number from 0 to {MOST_MAX:,}")
    return value
