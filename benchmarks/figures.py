"""Figures: values by round and contestant, and the arithmetic that makes ratios of them. No I/O."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Values = Sequence[float | None]


class Figure(NamedTuple):
    """One measured value.

    Attributes:
        name: what was measured.
        value: how much.
        unit: of what.
        is_rate: whether more is better; if not, less is.
    """

    name: str
    value: float
    unit: str
    is_rate: bool = False


class Spread(NamedTuple):
    """The middle of the rounds, and how far they lie apart."""

    median: float
    least: float
    most: float


class Row(NamedTuple):
    """A figure of all contestants, over all rounds.

    Attributes:
        measure: the measure that it comes from.
        name, unit, is_rate: as in `Figure`.
        values: contestant → its value in each round; None: it had none in that round.
    """

    measure: str
    name: str
    unit: str
    is_rate: bool
    values: Mapping[str, Values]

    def spread(self, contestant: str) -> Spread | None:
        """Median, least and most; None: it was never measured."""
        return spread(self.values.get(contestant, ()))

    def ratio(self, contestant: str, anchor: str) -> Spread | None:
        """Value by value of the same round: of two rounds one may have been run while the machine was busy with other work."""
        return spread(ratios(self.values.get(contestant, ()), self.values.get(anchor, ())))

    def ratio_to_best(self, contestant: str, anchors: Iterable[str]) -> Spread | None:
        """Against whichever of the anchors was best in that round."""
        return spread(ratios(self.values.get(contestant, ()), self._best(anchors)))

    def best(self, anchors: Iterable[str]) -> str | None:
        """The anchor with the best median."""
        medians = {anchor: found.median for anchor in anchors if (found := self.spread(anchor))}
        return (max if self.is_rate else min)(medians, key=lambda anchor: medians[anchor]) if medians else None

    def _best(self, anchors: Iterable[str]) -> Values:
        rounds = zip(*(self.values[anchor] for anchor in anchors if anchor in self.values), strict=True)
        known = ([value for value in values if value is not None] for values in rounds)
        return [(max if self.is_rate else min)(values) if values else None for values in known]


def ratios(values: Values, anchors: Values) -> list[float | None]:
    """Round by round; None where either is missing, or there is nothing to divide by."""
    pairs = zip(values, anchors, strict=False)
    return [None if value is None or not anchor else value / anchor for value, anchor in pairs]


def spread(values: Values) -> Spread | None:
    """Over the rounds that have a value."""
    known = [value for value in values if value is not None]
    return Spread(statistics.median(known), min(known), max(known)) if known else None


def percentile(values: Iterable[float], part: float) -> float:
    """The value below which this part of the values lies, by the nearest rank."""
    ranked = sorted(values)
    return ranked[max(0, math.ceil(part * len(ranked)) - 1)]
