"""Flows are found by when they were added: so long ago, or since a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from tests.cli.conftest import FLOWS
from tests.cli.terminal import Ran


def iso(hours: int) -> str:
    """The moment in so many hours."""
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat(timespec="seconds")


@pytest.mark.parametrize(
    ("words", "is_there"),
    [
        (["--since", "1h"], True), (["--since", iso(-1)], True), (["--since", "2020-01-31"], True), (["--since", iso(1)], False),
        (["--until", iso(-1)], False), (["--until", iso(1)], True), (["--since", iso(-2), "--until", iso(-1)], False),
    ],
)  # fmt: skip
def test_since_and_until_take_durations_and_moments(
    run: Callable[..., Ran], finished: str, words: list[str], is_there: bool
) -> None:
    ran = run("list", "--tag", "beta", *words, "-o", "json")
    assert ran.code == 0, ran
    assert (finished in {flow["id"] for flow in json.loads(ran.out)["data"]}) == is_there


def test_what_is_no_moment_is_refused_by_the_options_name(run: Callable[..., Ran]) -> None:
    ran = run("list", "--since", "2030-13-01")
    assert (ran.code, ran.out) == (2, "")
    assert "--since '2030-13-01' is no moment" in ran.err


@pytest.mark.parametrize("typed", ["soon", "500d", "0s"])
@pytest.mark.parametrize(
    "words",
    [
        ["list", "--since"], ["list", "--until"], ["dead", "list", "--since"], ["cancel", "--since"], ["prune", "--since"],
        ["retry", "finished", "--deadline"], ["submit", f"{FLOWS}:simple", "-i", "text=a", "--deadline"],
    ],
)  # fmt: skip
def test_what_is_neither_duration_nor_moment_is_told_of_both(
    run: Callable[..., Ran], finished: str, words: list[str], typed: str
) -> None:
    ran = run(*words, typed)
    first, second = ran.err.splitlines()
    assert (ran.code, ran.out) == (2, "")
    assert first.endswith(f"{words[-1]} is '{typed}'")
    assert "a duration such as 90s, 5m or 2h, of at most 366 days, or a moment such as 2030-01-31T02:00" in second
