"""The rows of docs/reference/semantics.md: what a flow does, which tests state it, and how that compares with BullMQ.

They stand in tests/conformance/semantics.toml, and all of them are shown.
"""

from __future__ import annotations

import ast
import functools
import tomllib
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple

from tests.house.project import ROOT

TESTS: Final = ROOT / "tests"
SOURCE: Final = TESTS / "conformance" / "semantics.toml"
RESULTS: Final = ("same", "better", "differs", "not yet")
# The letter with which the ids of a group begin → what it is about.
GROUPS: Final = {
    "A": "Order and data",
    "B": "Flows beneath a stage",
    "C": "Results and retention",
    "D": "Children that are not needed",
    "E": "Failure",
    "F": "What is added while a flow runs",
    "G": "Options",
    "H": "Adding again",
    "I": "Looking at a flow",
    "J": "Many flows at once",
    "K": "Cancelling and removing",
    "L": "Retrying",
    "M": "Deduplication",
    "N": "Graphs that make no sense",
    "O": "Queues",
    "P": "Crashes, late answers, and what else belongs to flows",
    "W": "Where trees of jobs are known to be weak",
    "U": "What users of trees of jobs ask for",
}


class Row(NamedTuple):
    """One behaviour.

    Attributes:
        id: its number: the group's letter, and where it stands in it.
        does: what flowq does, in a sentence.
        tests: those that state it, such as `conformance/test_map.py::test_…`.
        result: how it compares: one of `RESULTS`.
        why: of what differs or is not there yet: why.
        out_of_scope: flowq does not do this, and there is nothing to test.
    """

    id: str
    does: str
    tests: tuple[str, ...] = ()
    result: str = "same"
    why: str = ""
    out_of_scope: bool = False

    @property
    def missing(self) -> list[str]:
        """The tests that are named and do not exist."""
        return [test for test in self.tests if test.partition("::")[2] not in _names(test.partition("::")[0])]


def rows() -> list[Row]:
    """All rows, in their order."""
    entries: list[dict[str, Any]] = tomllib.loads(SOURCE.read_text("utf-8"))["row"]
    return [Row(**{**entry, "tests": tuple(entry.get("tests", ()))}) for entry in entries]


def rendered() -> str:
    """The tables of the page, one for each group, and how many rows have which result."""
    shown = rows()
    counts = Counter(row.result for row in shown)
    told = ", ".join(f"{counts[result]} `{result}`" for result in RESULTS if counts[result])
    parts = [f"{len(shown)} behaviours: {told}."]
    for letter, title in GROUPS.items():
        lines = [_line(row) for row in shown if row.id[0] == letter]
        if lines:
            parts.append(
                "\n".join([f"## {letter} · {title}", "", "| | what flowq does | tests | result |", "|---|---|---|---|", *lines])
            )
    return "\n\n".join(parts)


def _line(row: Row) -> str:
    tests = "<br>".join(_link(test) for test in row.tests)
    result = f"`{row.result}`" + (f": {row.why}" if row.why else "")
    return f"| {row.id} | {row.does} | {tests} | {result} |"


def _link(test: str) -> str:
    path, _, name = test.partition("::")
    return f"[`{name}`](../../tests/{path})"


@functools.cache
def _names(path: str) -> frozenset[str]:
    """The tests of a file, by name; none if there is no such file."""
    file: Path = TESTS / path
    if not file.is_file():
        return frozenset()
    nodes = ast.parse(file.read_text("utf-8")).body
    return frozenset(node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
