"""What a failed run leads to: another attempt, or the end. No clock, no server."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from flowq.engine.run.policy import FREE_RETRIES_MAX, after_error
from flowq.errors import InvalidValue, RetryAfter, StageTimedOut, Unrecoverable, ValueNotStorable, ValueTooLarge
from flowq.model.failure import Failure
from flowq.model.outcome import Claim, Fail, Outcome, Retry, Token
from flowq.model.plan import StagePlan
from flowq.model.retry import Backoff

STAGE = StagePlan("encode", "encode", attempts=3, backoff=Backoff.exponential("1s", jitter=0))


def after(error: BaseException, attempt: int = 1, fence: int | None = None, stage: StagePlan = STAGE) -> Outcome:
    claim = Claim("f1", 0, "", Token(attempt if fence is None else fence, "n"), attempt, 0, 0, 0, b"", {}, "default:encode")
    return after_error(error, stage, claim, 0.0)


def failure_in(outcome: Outcome) -> Failure:
    assert isinstance(outcome, Fail | Retry)
    # The failure is packed, and that packed as text: see `opaque`.
    packed = bytes(outcome.failure)
    header = 1 if packed[0] < 0xD9 else {0xD9: 2, 0xDA: 3, 0xDB: 5}[packed[0]]
    return msgspec.msgpack.decode(packed[header:], type=Failure)


@pytest.mark.parametrize(("attempt", "delay_ms"), [(1, 1_000), (2, 2_000)])
def test_an_error_is_retried_by_the_back_off_while_attempts_are_left(attempt: int, delay_ms: int) -> None:
    outcome = after(OSError("busy"), attempt)
    assert isinstance(outcome, Retry)
    assert (outcome.delay_ms, outcome.keeps_attempt, outcome.cause) == (delay_ms, False, "OSError: busy")


def test_the_last_attempt_is_the_last() -> None:
    outcome = after(OSError("busy"), 3)
    assert isinstance(outcome, Fail)
    assert failure_in(outcome).kind == "error"


@pytest.mark.parametrize(
    "error",
    [
        Unrecoverable("no such video"),
        ValueNotStorable("encode", "result", "a generator"),
        ValueTooLarge("encode", "result", 9, 1, "shrink it"),
        InvalidValue("x", 1, "2"),
    ],
)
def test_what_would_end_the_same_way_again_is_not_tried_again(error: Exception) -> None:
    outcome = after(error)
    assert isinstance(outcome, Fail)
    assert failure_in(outcome).kind == "unrecoverable"


def test_a_timeout_is_retried_and_known_as_one() -> None:
    outcome = after(StageTimedOut("encode", 5))
    assert isinstance(outcome, Retry)
    assert failure_in(outcome).kind == "timeout"


def test_retry_after_says_itself_when() -> None:
    outcome = after(RetryAfter("90s", "429"))
    assert isinstance(outcome, Retry)
    assert (outcome.delay_ms, outcome.keeps_attempt, outcome.cause) == (90_000, False, "RetryAfter: 429")
    assert isinstance(after(RetryAfter("90s"), 3), Fail), "it uses up attempts like any other"


def test_retry_after_can_be_free_but_not_for_ever() -> None:
    free = RetryAfter("1s", uses_attempt=False)
    outcome = after(free, 3, fence=50)
    assert isinstance(outcome, Retry)
    assert outcome.keeps_attempt
    assert isinstance(after(free, 3, fence=STAGE.attempts + FREE_RETRIES_MAX + 1), Fail)


@pytest.mark.parametrize("duration", ["soon", -1, float("nan"), None, "400d"])
def test_a_retry_after_without_a_time_is_refused_where_it_is_made_and_fails_the_stage(duration: Any) -> None:
    with pytest.raises(InvalidValue, match=r"RetryAfter is .*; expected a timedelta, seconds") as refused:
        RetryAfter(duration)
    assert isinstance(after(refused.value), Fail)


def test_the_cause_is_one_short_line() -> None:
    outcome = after(OSError("x" * 1_000 + "\nsecond line"))
    assert isinstance(outcome, Retry)
    assert len(outcome.cause) <= 200
    assert "\n" not in outcome.cause
