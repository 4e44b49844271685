"""What a worker hears beside its exchange, for the duties of its process."""

from __future__ import annotations

import msgspec


class House(msgspec.Struct, frozen=True):
    """What there is for the duties of workers in a partition.

    Attributes:
        limits: another one when limits were set or removed.
        late: how many leases ran out.
        closing: whether something is being closed.
        firings: how many firings of schedules are due.
    """

    limits: bytes
    late: int
    closing: int
    firings: int
