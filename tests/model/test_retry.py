"""When a failed stage runs again: bounded, spread, and the same for the same dice."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.errors import InvalidValue
from flowq.model.retry import Backoff


def test_waits_double_up_to_their_limit() -> None:
    backoff = Backoff.exponential("1s", max="10s")
    assert [backoff.delay_ms(retry, 0.0) for retry in (1, 2, 3, 4, 5, 6)] == [1_000, 2_000, 4_000, 8_000, 10_000, 10_000]


def test_jitter_takes_off_a_share_and_never_adds() -> None:
    backoff = Backoff.exponential("1s", jitter=0.5)
    assert (backoff.delay_ms(1, 0.0), backoff.delay_ms(1, 0.5), backoff.delay_ms(1, 1.0)) == (1_000, 750, 500)


@given(st.integers(1, 10**9), st.floats(0, 1))
def test_no_number_of_retries_leaves_the_bounds(retry: int, share: float) -> None:
    for backoff in (Backoff.exponential("2s", factor=10, max="5m"), Backoff.fixed("3s"), Backoff.none(), Backoff()):
        assert 0 <= backoff.delay_ms(retry, share) <= backoff.max_ms


def test_a_fixed_wait_is_always_the_same_and_none_is_none() -> None:
    assert {Backoff.fixed("3s").delay_ms(retry) for retry in range(1, 50)} == {3_000}
    assert {Backoff.none().delay_ms(retry) for retry in range(1, 50)} == {0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"base": 0},
        {"base": -1},
        {"base": "x"},
        {"factor": 0.5},
        {"factor": 11},
        {"factor": float("nan")},
        {"jitter": -0.1},
        {"jitter": 2},
        {"max": 0.5},
    ],
)
def test_a_backoff_out_of_range_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidValue, match="backoff"):
        Backoff.exponential(**{"base": "1s", **wrong})
