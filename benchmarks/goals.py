"""What flowq wants to reach, as comparisons of figures: each round by itself, and then the median of the rounds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from benchmarks.figures import Row, Spread

# Stands for whichever Python peer is the best in that round.
BEST_PYTHON_PEER = "the best Python peer"


class Goal(NamedTuple):
    """One goal.

    Attributes:
        measure, figure: what is looked at.
        how: whether it may not be less, or not more, than `bound`.
        bound: in units of the figure, or times of `versus`.
        versus: a contestant, `BEST_PYTHON_PEER`, or "": the value itself counts.
        of: whose figure.
    """

    measure: str
    figure: str
    how: Literal["≥", "≤"]
    bound: float
    versus: str = ""
    of: str = "flowq"

    def says(self) -> str:
        """The goal in words."""
        times = f" × {self.versus}" if self.versus else ""
        return f"{self.of}: {self.measure}: {self.figure} {self.how} {self.bound:g}{times}"

    def measured(self, rows: Sequence[Row], peers: Sequence[str]) -> Spread | None:
        """What it came to; None: one of the two was not measured."""
        row = next((row for row in rows if (row.measure, row.name) == (self.measure, self.figure)), None)
        if row is None:
            return None
        if self.versus == BEST_PYTHON_PEER:
            return row.ratio_to_best(self.of, peers)
        return row.ratio(self.of, self.versus) if self.versus else row.spread(self.of)

    def is_met(self, measured: Spread) -> bool:
        """By the median."""
        return measured.median >= self.bound if self.how == "≥" else measured.median <= self.bound


GOALS = (
    Goal("chains", "run, at its best", "≥", 3, "BullMQ"),
    Goal("chains", "run, at its best", "≥", 15, BEST_PYTHON_PEER),
    Goal("chains", "submit and run", "≥", 6, "BullMQ"),
    Goal("chains", "submit", "≥", 10, "BullMQ"),
    Goal("chains", "run, at its best", "≥", 0.5, "floor"),
    Goal("chains", "run, at its best", "≥", 1, "BullMQ", of="flowq always"),
    Goal("latency", "p50", "≤", 0.5, "BullMQ"),
    Goal("latency", "p99", "≤", 0.5, "BullMQ"),
    Goal("weight", "waiting", "≤", 0.125, "BullMQ"),
    Goal("weight", "completed and kept", "≤", 0.125, "BullMQ"),
    Goal("fan", "last child committed → parent claimed", "≤", 10),
    Goal("wide fan", "last child committed → parent claimed", "≤", 10),
    Goal("fan", "whole fan", "≤", 1),
    Goal("wide fan", "whole fan", "≤", 10),
    Goal("wide fan", "slowest command", "≤", 50),
    Goal("claims behind many", "p99, times of that behind none", "≤", 2),
    Goal("claims behind many", "memory of each of 1,000,000", "≤", 1_000),
    Goal("idleness", "requests", "≤", 2),
)
