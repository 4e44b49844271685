"""`Dedup`: of flows that are added under one key only the first is, within a window or until it has ended. Pure."""

from __future__ import annotations

import msgspec

from flowq.errors import InvalidValue
from flowq.model.duration import Duration, to_ms
from flowq.model.names import check_flow_id


class Dedup(msgspec.Struct, frozen=True):
    """Under which key a flow is the only one of its pipeline.

    Attributes:
        key: what makes two flows the same, such as `user:7`.
        window: for so long after the first was added, others are not, whatever became of it; None: until it has ended.

    Raises:
        InvalidValue: the key can't be one, or the window is no length.
    """

    key: str
    window: Duration | None = None

    def __post_init__(self) -> None:
        """Refuses what makes no sense where it is written."""
        check_flow_id(self.key, "dedup key")
        if self.window is not None:
            to_ms(self.window, "dedup window", least_ms=1)

    def name(self, pipeline: str) -> str:
        """The key among those of all pipelines."""
        return f"{pipeline}:{self.key}"

    @property
    def window_ms(self) -> int:
        """The window in milliseconds; 0: until the first has ended."""
        return 0 if self.window is None else to_ms(self.window, "dedup window", least_ms=1)


def check_dedup(value: object, flow_id: object) -> Dedup | None:
    """Returns it, or raises InvalidValue: it is something else, or beside an id, which by itself makes a flow the only one."""
    if value is None:
        return None
    if not isinstance(value, Dedup):
        raise InvalidValue("dedup", value, 'Dedup("user:7"), or Dedup("user:7", window="10m")')
    if flow_id is not None:
        raise InvalidValue("dedup", value, "no id beside it: the flow that stands in its way has an id of its own")
    return value
