"""Ratios are taken within a round, then the middle of them: rounds differ more than contestants do."""

from __future__ import annotations

import pytest

from benchmarks.figures import Row, Spread, percentile, ratios, spread
from benchmarks.goals import BEST_PYTHON_PEER, Goal

RATES = Row(
    "chains", "run", "stages/s", True, {"flowq": [30, 80, 60], "BullMQ": [10, 20, 30], "arq": [2, 8, 5], "SAQ": [3, 4, 6]}
)
COSTS = RATES._replace(unit="ms", is_rate=False)


def test_a_ratio_is_taken_of_the_same_round() -> None:
    assert ratios([30, 80, 60], [10, 20, 30]) == [3, 4, 2]
    assert RATES.ratio("flowq", "BullMQ") == Spread(3, 2, 4)


def test_a_round_without_both_values_has_no_ratio() -> None:
    assert ratios([30, None, 60], [10, 20, None]) == [3, None, None]
    assert ratios([30], [0]) == [None]
    assert spread([None, None]) is None


def test_the_best_peer_is_chosen_anew_in_each_round() -> None:
    assert RATES.ratio_to_best("flowq", ["arq", "SAQ"]) == Spread(10, 10, 10)
    assert COSTS.ratio_to_best("flowq", ["arq", "SAQ"]) == Spread(15, 12, 20)


def test_the_best_peer_is_the_fastest_of_rates_and_the_cheapest_of_costs() -> None:
    assert RATES.best(["arq", "SAQ"]) == "arq"
    assert COSTS.best(["arq", "SAQ"]) == "SAQ"
    assert RATES.best(["dramatiq"]) is None


def test_a_spread_has_the_median_and_both_ends() -> None:
    assert spread([5, None, 1, 3]) == Spread(3, 1, 5)


def test_a_percentile_is_a_value_that_was_measured() -> None:
    assert percentile(range(1, 101), 0.99) == 99
    assert percentile(range(1, 102), 0.99) == 100
    assert percentile([7.0], 0.99) == 7.0


@pytest.mark.parametrize(
    ("goal", "is_met"),
    [
        (Goal("chains", "run", "≥", 3, "BullMQ"), True),
        (Goal("chains", "run", "≥", 10.5, BEST_PYTHON_PEER), False),
        (Goal("chains", "run", "≤", 60), True),
    ],
)
def test_a_goal_is_met_by_the_median(goal: Goal, is_met: bool) -> None:
    measured = goal.measured([RATES], ["arq", "SAQ"])
    assert measured is not None
    assert goal.is_met(measured) is is_met


def test_a_goal_that_nobody_measured_is_neither_met_nor_missed() -> None:
    assert Goal("chains", "run", "≥", 3, "dramatiq").measured([RATES], []) is None
    assert Goal("fan", "run", "≥", 3).measured([RATES], []) is None
