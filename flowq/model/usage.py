"""`Usage`: what stages used up, summed by day, pipeline and tenant. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """What the flows of one pipeline and tenant used up in one day.

    Attributes:
        day: such as `2026-11-22`, in UTC: the day on which the runs ended.
        pipeline: the pipeline.
        tenant: the tenant; "": nobody in particular.
        amounts: name → sum.
    """

    day: str
    pipeline: str
    tenant: str
    amounts: dict[str, float]


def summed(amounts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """All together, by name."""
    total: dict[str, float] = {}
    for some in amounts:
        for name, amount in some.items():
            total[name] = total.get(name, 0) + amount
    return total
