"""The bars of `flowq inspect`, and the axis above them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowq.cli.render import waterfall
from flowq.cli.render.axis import Axis, Busy
from flowq.model.failure import Failure
from flowq.model.snapshot import AttemptSnapshot
from tests.cli.snapshots import T0, stage


def bar(item: waterfall.StageSnapshot, seconds: int) -> str:
    axis = Axis(T0, T0 + seconds * 1000, [Busy(T0, T0 + seconds * 1000)], seconds)
    return "".join(span.text for span in waterfall.bar([item], axis, T0 + seconds * 1000, True)).rstrip()


def test_waiting_and_running_have_shades_of_their_own() -> None:
    assert bar(stage("a", "completed", start=4, run=6, wait_seconds=4.0), 12) == "░░░░██████"


def test_a_stage_that_runs_reaches_to_now() -> None:
    assert bar(stage("a", "running", start=4, run=1, wait_seconds=0.0), 10) == "    ██████"


def test_a_retry_shows_the_failed_try_and_the_back_off() -> None:
    tried = stage(
        "a",
        "completed",
        start=8,
        run=2,
        wait_seconds=1.0,
        attempt=2,
        history=(AttemptSnapshot(1, "retried", "w", T0 + 1000, 3.0, "x"),),
    )
    assert bar(tried, 12) == " ▓▓▓╌╌╌░██"


def test_an_attempt_that_failed_for_good_looks_like_the_ones_before_it() -> None:
    first = AttemptSnapshot(1, "retried", "w", T0 + 1000, 3.0, "x")
    given_up = stage("a", "failed", start=8, run=2, wait_seconds=1.0, attempt=2, history=(first,))
    assert bar(given_up, 12) == " ▓▓▓╌╌╌░▓▓"


def test_a_stage_in_back_off_shows_it_up_to_now() -> None:
    waiting = stage(
        "a",
        "scheduled",
        attempt=1,
        ready_at=T0 + 60_000,
        failure=Failure("X", "y"),
        history=(AttemptSnapshot(1, "retried", "w", T0, 3.0, "x"),),
    )
    assert bar(waiting, 10) == "▓▓▓╌╌╌╌╌╌╌"


def test_a_stage_that_waits_for_a_worker_shows_how_long() -> None:
    assert bar(stage("a", "ready", ready_at=T0 + 2000), 10) == "  ░░░░░░░░"


def test_a_suspended_stage_has_no_bar_for_the_time_it_waits() -> None:
    assert bar(stage("a", "suspended", start=2, run=1, wait_seconds=0.0), 10) == "  █"


@pytest.mark.parametrize("outcome", ["completed", "released", "suspended"])
def test_an_earlier_run_that_did_not_fail_does_not_look_as_if(outcome: str) -> None:
    earlier = AttemptSnapshot(1, outcome, "w", T0 + 1000, 3.0, "")
    again = stage("a", "completed", start=8, run=2, wait_seconds=1.0, history=(earlier,))
    assert bar(again, 12) == " ███   ░██"


@pytest.mark.parametrize(("attempt", "outcome"), [(1, "failed"), (2, "retried")])
def test_what_lay_idle_until_it_was_retried_by_hand_was_no_back_off(attempt: int, outcome: str) -> None:
    earlier = AttemptSnapshot(attempt, outcome, "w", T0 + 1000, 3.0, "x")
    again = stage("a", "completed", start=8, run=2, wait_seconds=1.0, attempt=1, history=(earlier,))
    assert bar(again, 12) == " ▓▓▓   ░██"
    waiting = stage("a", "ready", ready_at=T0 + 8000, history=(earlier,))
    assert bar(waiting, 10) == " ▓▓▓    ░░"


def test_a_try_that_used_up_no_attempt_is_followed_by_a_back_off() -> None:
    earlier = AttemptSnapshot(1, "retried", "w", T0, 3.0, "x")
    assert bar(stage("a", "scheduled", ready_at=T0 + 60_000, history=(earlier,)), 10) == "▓▓▓╌╌╌╌╌╌╌"


def test_a_run_of_a_millisecond_is_still_seen() -> None:
    assert bar(stage("a", "completed", start=5, run=0.001, wait_seconds=0.0), 10) == "     █"


def test_a_blocked_stage_has_no_bar() -> None:
    assert bar(stage("a", "blocked"), 10) == ""


def test_a_skipped_stage_has_not_run() -> None:
    assert bar(stage("a", "skipped", start=4, run=1, wait_seconds=4.0), 10) == "░░░░"


def test_idle_time_is_squeezed_out_of_the_axis() -> None:
    day = 86_400_000
    axis = Axis(0, day + 10_000, [Busy(0, 10_000), Busy(day, day + 10_000)], 43)
    assert axis.column(10_000) == 20
    assert axis.column(day) == 23
    assert "≈" in axis.header("≈")


@given(
    st.lists(st.tuples(st.integers(-1000, 10**7), st.integers(-1000, 10**7)), max_size=12),
    st.integers(0, 10**7),
    st.integers(8, 160),
    st.lists(st.integers(-5000, 2 * 10**7), max_size=20),
)
def test_columns_grow_with_time_and_stay_inside(
    intervals: list[tuple[int, int]], end: int, width: int, moments: list[int]
) -> None:
    axis = Axis(0, end, [Busy(*interval) for interval in intervals], width)
    columns = [axis.column(moment) for moment in sorted(moments)]
    assert columns == sorted(columns)
    assert all(0 <= column <= width for column in columns)
    assert len(axis.header("≈")) == width
