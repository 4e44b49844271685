"""What the documents say of the last complete measurement is what it found."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.__main__ import PLOT, RESULT
from benchmarks.contestants import ROOT
from benchmarks.goals import GOALS
from benchmarks.plot import plot
from benchmarks.report import chain_table, goal_table

DOCUMENT = ROOT / "docs" / "explanation" / "performance.md"


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    return json.loads(RESULT.read_text("utf-8"))


def test_the_document_has_the_goals_as_they_were_measured(made: dict[str, Any]) -> None:
    """Else: python -m benchmarks --show benchmarks/results/latest.json --goals."""
    assert goal_table(made).count("\n") == 1 + len(GOALS)
    assert goal_table(made) in DOCUMENT.read_text("utf-8")


def test_the_document_has_what_chains_took(made: dict[str, Any]) -> None:
    """Else: python -m benchmarks --show benchmarks/results/latest.json --chains."""
    assert chain_table(made).count("\n") == 1 + len(made["contestants"])
    assert chain_table(made) in DOCUMENT.read_text("utf-8")


def test_the_picture_shows_the_same_measurement(made: dict[str, Any]) -> None:
    """Else: python -m benchmarks --show benchmarks/results/latest.json --plot docs/benchmarks.svg."""
    assert PLOT.read_text("utf-8") == plot(made)


def test_it_was_complete(made: dict[str, Any]) -> None:
    assert made["rounds"] >= 5
    assert made["failures"] == []
    assert [each["name"] for each in made["contestants"] if each["missing"]] == []
    assert not made["is_modified"]
