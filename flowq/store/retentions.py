"""How long ended flows are kept, as scripts take it: usually, and those of plans that say it themselves."""

from __future__ import annotations

from typing import Any

import msgspec

from flowq.model.keep import Keep

_KNOWN_MAX = 1_000
_DAY_MS = 86_400_000


class Retention(msgspec.Struct, frozen=True, array_like=True):
    """How long ended flows are kept, in milliseconds: three days when completed, fourteen when failed or cancelled.

    Attributes:
        completed_ms, failed_ms, cancelled_ms: until they are pruned.
        by_itself_ms: how much later a flow goes by itself if nobody has pruned it: a day.
    """

    completed_ms: int = 3 * _DAY_MS
    failed_ms: int = 14 * _DAY_MS
    cancelled_ms: int = 14 * _DAY_MS
    by_itself_ms: int = _DAY_MS


class OwnRetentions:
    """What the plans that this process has met say themselves."""

    def __init__(self) -> None:
        self._keeps: dict[str, Keep] = {}

    def note(self, digest: str, keep: Keep | None) -> None:
        """Notes what a plan says."""
        if keep is not None and keep.has_ages:
            self._keeps[digest] = keep
            if len(self._keeps) > _KNOWN_MAX:
                self._keeps.pop(next(iter(self._keeps)))

    def beside(self, usual: Retention) -> tuple[Any, ...]:
        """All that scripts/retain.lua takes."""
        lengths = msgspec.structs.astuple(usual)
        if not self._keeps:
            return lengths
        default = Keep(*lengths[:3])
        return (*lengths, {digest: msgspec.structs.astuple(keep.or_else(default))[:3] for digest, keep in self._keeps.items()})
