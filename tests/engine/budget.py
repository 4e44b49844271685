"""The budget file, and the judge of what was counted: neither dearer than the file says, nor much cheaper."""

from __future__ import annotations

import math
import tomllib
from functools import cache
from pathlib import Path

import msgspec

FILE = Path(__file__).parents[2] / "benchmarks" / "budget.toml"


class Figure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A line of the file.

    Attributes:
        most: what it may be.
        means: what is counted.
        slack: how much lower, as a share of `most`, it may be before the file has to be lowered.
    """

    most: float
    means: str
    slack: float = 0.1

    def judged(self, name: str, counted: float) -> str:
        """What is wrong with it; empty: nothing."""
        exact, about = f"{math.ceil(counted * 1000) / 1000:g}", f"({self.means})"
        if counted > self.most:
            return f"{name} is {exact}, and its budget {self.most:g} {about}: make it cheaper, or say in the commit why not"
        if counted < self.most * (1 - self.slack):
            return f"{name} is {exact} now {about}, which is better: lower the budget of {self.most:g} in {FILE.name} to {exact}"
        return ""


@cache
def figures() -> dict[str, Figure]:
    """The lines of the file, by `table.name`."""
    tables = msgspec.convert(tomllib.loads(FILE.read_text("utf-8")), dict[str, dict[str, Figure]])
    return {f"{table}.{name}": figure for table, lines in tables.items() for name, figure in lines.items()}


def keeps_to_budget(name: str, counted: float) -> None:
    """Fails unless what was counted is what the file says."""
    if wrong := figures()[name].judged(name, counted):
        raise AssertionError(wrong)
