"""`Usage`: what stages used up, summed by day, pipeline and tenant. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import SupportsFloat

import msgspec

from flowq.errors import InvalidValue
from flowq.model.told import as_number, as_text

_NAMES_MAX = 20
_NAME_CHARS_MAX = 64
# Up to there the server, which counts in floating point, counts whole numbers one by one.
_AMOUNT_MAX = 10**15


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


def metered(known: Mapping[str, float], amounts: Mapping[str, SupportsFloat]) -> dict[str, float]:
    """What one run has used up of these amounts, with what is known of it already.

    Raises:
        InvalidValue: an amount or a sum is out of range, or there are too many names.
    """
    sums: dict[str, float] = {}
    for name, amount in amounts.items():
        number = as_number(amount)
        if number is None or not 0 <= number <= _AMOUNT_MAX or len(name) > _NAME_CHARS_MAX or not name.isprintable():
            expected = f"a number from 0 to 10^15, under a name of at most {_NAME_CHARS_MAX} printable characters"
            raise InvalidValue(f"usage {as_text(name, _NAME_CHARS_MAX)}", amount, expected)
        sums[name] = known.get(name, 0) + number
        if sums[name] > _AMOUNT_MAX:
            raise InvalidValue(f"usage {name}", sums[name], "at most 10^15 in one run")
    if (count := len(known.keys() | sums.keys())) > _NAMES_MAX:
        raise InvalidValue("usage", count, f"at most {_NAMES_MAX} names in one run")
    return sums


def summed(amounts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """All together, by name."""
    total: dict[str, float] = {}
    for some in amounts:
        for name, amount in some.items():
            total[name] = total.get(name, 0) + amount
    return total
