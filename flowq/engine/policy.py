"""What a failed run leads to: another attempt, or the end. Pure: no I/O, no clock; the dice can be given."""

from __future__ import annotations

import msgspec

from flowq.errors import InvalidValue, RetryAfter, StageTimedOut, Unrecoverable, ValueNotStorable, ValueTooLarge, WrongArguments
from flowq.model.duration import to_ms
from flowq.model.failure import Failure, FailureKind
from flowq.model.outcome import Claim, Fail, Outcome, Retry, opaque
from flowq.model.plan import StagePlan

_CAUSE_CHARS_MAX = 200
# A service that answers "come back later" for ever must not keep a flow alive for ever.
FREE_RETRIES_MAX = 100

# The same arguments give the same error again, so another attempt is wasted.
_HOPELESS = (Unrecoverable, ValueNotStorable, ValueTooLarge, WrongArguments, InvalidValue)

_pack = msgspec.msgpack.Encoder().encode


def after_error(error: BaseException, stage: StagePlan, claim: Claim, random_share: float | None = None) -> Outcome:
    """The outcome of a run that raised `error`.

    `Unrecoverable` and values that can't be stored fail at once; `RetryAfter` says itself when to come back; all else is
    retried by the stage's back-off while attempts are left.
    """
    failure = Failure.of(error, _kind(error))
    packed, cause = opaque(_pack(failure)), failure.line[:_CAUSE_CHARS_MAX]
    run = (claim.flow_id, claim.index, claim.token.fence, claim.token.nonce)
    is_free = isinstance(error, RetryAfter) and not error.uses_attempt and claim.token.fence <= stage.attempts + FREE_RETRIES_MAX
    if isinstance(error, _HOPELESS) or not (is_free or claim.attempt < stage.attempts):
        return Fail(*run, packed, cause)
    if isinstance(error, RetryAfter):
        try:
            delay_ms = to_ms(error.duration, "RetryAfter")
        except InvalidValue as no_duration:
            return after_error(no_duration, stage, claim)
        return Retry(*run, packed, cause, delay_ms, keeps_attempt=is_free)
    return Retry(*run, packed, cause, stage.backoff.delay_ms(claim.attempt, random_share))


def _kind(error: BaseException) -> FailureKind:
    if isinstance(error, StageTimedOut):
        return "timeout"
    return "unrecoverable" if isinstance(error, _HOPELESS) else "error"
