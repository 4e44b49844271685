"""The options of a stage: checked once, where they are written, so that no wrong one travels any further."""

from __future__ import annotations

import re
from typing import Any, get_args

import msgspec

from flowq.errors import DefinitionError, InvalidValue
from flowq.model.duration import to_ms
from flowq.model.limit import LimitUse
from flowq.model.names import check_name, checked_room
from flowq.model.plan import Hook, Isolation, StagePlan
from flowq.model.retry import Backoff
from flowq.model.spec import PRIORITY_MAX
from flowq.pipeline.limit import checked_limits

ATTEMPTS_MAX = 100
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,31}")


class StageOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a stage is run. Built with `checked`.

    Attributes:
        queue: the queue whose workers run it.
        attempts: how often it may run before it fails for good; counts the first run.
        backoff: the wait before each retry.
        timeout_ms: how long one attempt may run; None: no limit.
        priority: larger runs first.
        isolation: `thread`: in a thread (or, for `async def`, the loop) of a shared process; `process`: in its own.
        delay_ms: how long it waits after all its children have completed.
        stall_ms: how long one attempt may go without progress; None: no limit.
        version: which version of the function this is; "": it has none.
        limits: what it takes of which limits, for all of its run.
        needs: what it takes of the worker host's own room.
        cache_ms: how long results are kept for other flows; 0: not at all.
        compensate: what undoes it; None: nothing.
    """

    queue: str = "default"
    attempts: int = 1
    backoff: Backoff = Backoff()
    timeout_ms: int | None = None
    priority: int = 0
    isolation: Isolation = "thread"
    delay_ms: int = 0
    stall_ms: int | None = None
    version: str = ""
    limits: tuple[LimitUse, ...] = ()
    needs: tuple[tuple[str, int], ...] = ()
    cache_ms: int = 0
    compensate: Hook | None = None

    def changed(self, **given: Any) -> StageOptions:
        """These options with those that were given as users write them; None counts as not given.

        Raises:
            InvalidValue: an option is out of range; names it.
        """
        checked = {_FIELD.get(name, name): _CHECKS[name](value) for name, value in given.items() if value is not None}
        return msgspec.structs.replace(self, **checked) if checked else self

    def template(self, name: str, stage: str) -> StagePlan:
        """A stage of a plan with these options that knows no neighbours yet.

        Raises:
            DefinitionError: it has a cache, and something that undoes it.
        """
        if self.cache_ms and self.compensate is not None:
            raise DefinitionError(
                f"stage {stage!r} has both a cache and a compensation: a flow that took the result of another one and then failed"
                " would undo what the other one did",
                "leave out cache= (or say cache=False), so that each flow undoes only what it did itself; or compensate=",
            )
        return StagePlan(
            name, stage, self.queue, self.attempts, self.backoff, self.timeout_ms, self.priority, self.isolation,
            delay_ms=self.delay_ms, stall_ms=self.stall_ms, version=self.version, limits=self.limits, needs=self.needs,
            cache_ms=self.cache_ms, compensate=self.compensate,
        )  # fmt: skip


def _attempts(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= ATTEMPTS_MAX:
        raise InvalidValue("attempts", value, f"a whole number from 1 to {ATTEMPTS_MAX}; it counts the first run")
    return value


def _priority(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > PRIORITY_MAX:
        raise InvalidValue("priority", value, f"a whole number from -{PRIORITY_MAX} to {PRIORITY_MAX}")
    return value


def _backoff(value: object) -> Backoff:
    if not isinstance(value, Backoff):
        raise InvalidValue("backoff", value, "Backoff.exponential(…), Backoff.fixed(…) or Backoff.none()")
    return value


def _isolation(value: object) -> str:
    if value not in get_args(Isolation):
        raise InvalidValue("isolation", value, "'thread' or 'process'")
    return str(value)


def _version(value: object) -> str:
    if not isinstance(value, str) or not _VERSION.fullmatch(value):
        raise InvalidValue("version", value, "1 to 32 letters, digits, '_', '-' or '.', as text")
    return value


def _queue(value: object) -> str:
    return check_name(value, "queue")


def _timeout_ms(value: object) -> int:
    return to_ms(value, "timeout", least_ms=1)


def _delay_ms(value: object) -> int:
    return to_ms(value, "delay")


def _stall_ms(value: object) -> int:
    return to_ms(value, "stall", least_ms=1)


def _needs(value: object) -> tuple[tuple[str, int], ...]:
    return checked_room(value, "needs")


def _cache_ms(value: object) -> int:
    if value is False:
        return 0
    return to_ms(value, "cache", least_ms=1)


_FIELD = {"timeout": "timeout_ms", "delay": "delay_ms", "stall": "stall_ms", "cache": "cache_ms"}
_CHECKS = {
    "queue": _queue,
    "attempts": _attempts,
    "backoff": _backoff,
    "timeout": _timeout_ms,
    "priority": _priority,
    "isolation": _isolation,
    "delay": _delay_ms,
    "stall": _stall_ms,
    "version": _version,
    "limits": checked_limits,
    "needs": _needs,
    "cache": _cache_ms,
}
