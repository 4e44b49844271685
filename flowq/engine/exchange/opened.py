"""What one claim may take: what the gates let through, and the permits that were got for it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from flowq.model.limit import OF_TENANT
from flowq.store.wants import Wants


class Opened(msgspec.Struct):
    """What one claim may take.

    Attributes:
        partition: from which partition.
        wants: of which queues, and how much; []: nothing.
        capacity: how many stages at most.
        is_whole: whether it asks for all that is served here.
        permits: limit → the permits that were got for it.
        asked: limits of which permits were asked for because something is known to wait for them.
        short: limits of which fewer were got than could be used.
    """

    partition: str
    wants: Sequence[Wants]
    capacity: int
    is_whole: bool
    permits: dict[str, list[str]] = {}
    asked: dict[str, None] = {}
    short: set[str] = set()

    @property
    def kinds(self) -> list[tuple[str, bool]]:
        """Where to look for what waits, the rest of what is served left to calls that ask for all."""
        return [(self.partition, is_whole) for is_whole in ((False, True) if self.is_whole else (False,))]

    @property
    def of_tenants(self) -> dict[str, int]:
        """Tenant → how many permits."""
        return {
            name.removeprefix(OF_TENANT): len(permits) for name, permits in self.permits.items() if name.startswith(OF_TENANT)
        }
