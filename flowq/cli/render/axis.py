"""The time axis of a waterfall. Long gaps in which nothing happened are squeezed, or a retry tomorrow would flatten all else."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from flowq.cli.render.sizes import shown_seconds

# A gap is squeezed when it takes more than this share of all the time in which something happened.
_GAP_SHARE: Final = 0.5
_GAP_COLUMNS: Final = 3


class Busy(NamedTuple):
    """A time in which something happened: milliseconds since 1970."""

    start: int
    end: int


class Axis:
    """Moments → columns.

    Attributes:
        width: how many columns there are.
        gaps: the columns where time was squeezed out.
    """

    def __init__(self, start: int, end: int, busy: Iterable[Busy], width: int) -> None:
        self.width = width
        self._start = start
        self._end = max(end, start + 1)
        pieces = _pieces(self._start, self._end, busy)
        squeezed = [piece for piece in pieces if piece.is_gap]
        if len(squeezed) * _GAP_COLUMNS > width // 2:  # too many to be worth it
            pieces, squeezed = [_Piece(self._start, self._end, False)], []
        shown_ms = sum(piece.end - piece.start for piece in pieces if not piece.is_gap) or 1
        scale = (width - _GAP_COLUMNS * len(squeezed)) / shown_ms
        self._moments: list[int] = [self._start]
        self._columns: list[float] = [0.0]
        self.gaps: list[int] = []
        for piece in pieces:
            if piece.is_gap:
                self.gaps.append(round(self._columns[-1]) + 1)
            columns = _GAP_COLUMNS if piece.is_gap else (piece.end - piece.start) * scale
            self._moments.append(piece.end)
            self._columns.append(self._columns[-1] + columns)

    def column(self, moment: int) -> float:
        """Where a moment lies: 0 … width."""
        if moment <= self._start:
            return 0.0
        if moment >= self._end:
            return float(self.width)
        index = bisect_right(self._moments, moment) - 1
        before, after = self._moments[index], self._moments[index + 1]
        share = (moment - before) / (after - before)
        return self._columns[index] + share * (self._columns[index + 1] - self._columns[index])

    def header(self, gap_mark: str) -> str:
        """The labels above the columns: beginning, middle and end, and a mark where time was squeezed."""
        total = shown_seconds((self._end - self._start) / 1000)
        cells = [" "] * self.width
        for gap in self.gaps:
            cells[min(gap, self.width - 1)] = gap_mark
        labels = [(0, "0"), (self.width - len(total), total)]
        if not self.gaps:
            middle = shown_seconds((self._end - self._start) / 2000)
            labels.insert(1, (self.width // 2 - len(middle) // 2, middle))
        taken = -1
        for at, label in labels:
            if at > taken and at >= 0:
                cells[at : at + len(label)] = label
                taken = at + len(label)
        return "".join(cells)[: self.width]


class _Piece(NamedTuple):
    start: int
    end: int
    is_gap: bool


def _pieces(start: int, end: int, busy: Iterable[Busy]) -> list[_Piece]:
    """The whole time in alternating pieces of something and nothing."""
    merged: list[list[int]] = []
    for interval in sorted(busy):
        first, last = max(interval.start, start), min(max(interval.end, interval.start), end)
        if last < first:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], last)
        else:
            merged.append([first, last])
    total = sum(last - first for first, last in merged)
    least_gap = max(total * _GAP_SHARE, 1000)
    pieces: list[_Piece] = []
    shown_from = start
    at = start
    for first, last in [*merged, [end, end]]:
        if first - at > least_gap and total:
            if at > shown_from:
                pieces.append(_Piece(shown_from, at, False))
            pieces.append(_Piece(at, first, True))
            shown_from = first
        at = last
    if end > shown_from or not pieces:
        pieces.append(_Piece(shown_from, max(end, shown_from + 1), False))
    return pieces
