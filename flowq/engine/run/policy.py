"""What a failed run leads to: another attempt, or the end. Pure: no I/O, no clock; the dice can be given."""

from __future__ import annotations

import msgspec

from flowq.errors import (
    DefinitionError,
    InvalidValue,
    RetryAfter,
    SignalTimedOut,
    SpawnedTooDeep,
    StageStalled,
    StageTimedOut,
    Unrecoverable,
    ValueNotStorable,
    ValueTooLarge,
    WrongArguments,
)
from flowq.model.duration import to_ms
from flowq.model.failure import Failure, FailureKind, StageFailure
from flowq.model.items import stage_of
from flowq.model.outcome import Claim, Fail, Outcome, Retry, opaque
from flowq.model.plan import StagePlan
from flowq.store.stored_plan import StoredPlan

_CAUSE_CHARS_MAX = 200
# A service that answers "come back later" for ever must not keep a flow alive for ever.
FREE_RETRIES_MAX = 100

# How often a stage may end its process, alone in it, before it is not run any more.
MAX_CRASHES = 3


class Poisoned(Exception):
    """The stage has ended its process too often.

    Args:
        crashes: how often.
        cause: how the last process ended.
    """

    def __init__(self, crashes: int, cause: str) -> None:
        super().__init__(f"it ended its process {crashes} times, each time alone in it; the last time: {cause}")


class NotWorthRetrying(Exception):
    """The stage's function raised what its stage does not want to be retried for: see `RetryTypes`.

    Args:
        error: what it raised.
    """

    def __init__(self, error: Exception) -> None:
        super().__init__(error)
        self.error = error


# The same arguments give the same error again, so another attempt is wasted.
_HOPELESS = (
    Poisoned, NotWorthRetrying, Unrecoverable, ValueNotStorable, ValueTooLarge, WrongArguments, InvalidValue, DefinitionError,
    SignalTimedOut, SpawnedTooDeep,
)  # fmt: skip

_pack = msgspec.msgpack.Encoder().encode


def after_error(error: BaseException, stage: StagePlan, claim: Claim, random_share: float | None = None) -> Outcome:
    """The outcome of a run that raised `error`.

    `Unrecoverable`, what the stage wants no retry for and values that can't be stored fail at once; `RetryAfter` says itself when
    to come back; all else is retried by the stage's back-off while attempts are left.
    """
    failure = failure_of(error)
    packed, cause, run = opaque(_pack(failure)), failure.line[:_CAUSE_CHARS_MAX], claim.run
    runs = claim.token.fence - claim.suspensions
    is_free = isinstance(error, RetryAfter) and not error.uses_attempt and runs <= stage.attempts + FREE_RETRIES_MAX
    if isinstance(error, _HOPELESS) or not (is_free or claim.attempt < stage.attempts):
        return Fail(*run, packed, cause)
    if isinstance(error, RetryAfter):
        return Retry(*run, packed, cause, to_ms(error.duration, "RetryAfter"), keeps_attempt=is_free)
    return Retry(*run, packed, cause, stage.backoff.delay_ms(claim.attempt, random_share))


def after_run_error(error: BaseException, stage: StagePlan | None, claim: Claim, plan: StoredPlan | None) -> Outcome:
    """The outcome of a run that raised, with what a failure for good means to the other stages."""
    outcome = after_error(error, stage or StagePlan("?", "?"), claim)
    if not isinstance(outcome, Fail) or stage is None or plan is None:
        return outcome
    index = stage_of(claim.index)
    if plan.head.fail_fast and not plan.is_tolerated(index, by_all=True):
        outcome = msgspec.structs.replace(outcome, closes=plan.head.stages)
    if not plan.is_tolerated(index, by_all=False):
        return outcome
    result = opaque(StageFailure.of(stage.name, failure_of(error), claim.attempt).packed())
    tolerant, is_tolerated = plan.bearers(index)
    return msgspec.structs.replace(outcome, result=result, tolerant=tolerant, is_tolerated=is_tolerated)


def failed_for_good(error: BaseException, run: tuple[str, int, int, str]) -> Fail:
    """The plain failure of a run, however many attempts are left."""
    failure = failure_of(error)
    return Fail(*run, opaque(_pack(failure)), failure.line[:_CAUSE_CHARS_MAX])


def failure_of(error: BaseException) -> Failure:
    """What is kept of it."""
    return Failure.of(error.error if isinstance(error, NotWorthRetrying) else error, _kind(error))


def _kind(error: BaseException) -> FailureKind:
    if isinstance(error, Poisoned):
        return "poisoned"
    if isinstance(error, StageTimedOut):
        return "timeout"
    if isinstance(error, StageStalled):
        return "stalled"
    return "unrecoverable" if isinstance(error, _HOPELESS) else "error"
