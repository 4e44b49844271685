"""`retry_on=` and `unrecoverable=`: which exceptions of a stage's function are worth another attempt.

They stay with the code, in the worker: a plan can't carry the types of exceptions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypeAlias, cast

from flowq.errors import (
    InvalidValue,
    RetryAfter,
    ServerError,
    StageStalled,
    StageTimedOut,
    StorageUnreachable,
    Unrecoverable,
)

# What both options take.
ErrorTypes: TypeAlias = type[Exception] | tuple[type[Exception], ...]

# They say themselves what comes next, or are reported by who knows nothing of the stage's code.
_DECIDED = (RetryAfter, Unrecoverable, StageTimedOut, StageStalled)
# Worth another attempt, listed or not: who lists the errors of a web service does not think of outages of flowq's own servers.
_ALWAYS = (RetryAfter, ServerError, StorageUnreachable)


class RetryTypes:
    """Judges what a stage's function has raised.

    Args:
        retry_on: only these are retried; None: all.
        unrecoverable: these are not, whatever `retry_on` says of a type above them.

    Raises:
        InvalidValue: not a type of exceptions, nor a tuple of such; or one that could have no effect.
    """

    __slots__ = ("_retry_on", "_unrecoverable")

    def __init__(self, retry_on: ErrorTypes | None = None, unrecoverable: ErrorTypes = ()) -> None:
        self._retry_on = None if retry_on is None else _checked("retry_on", retry_on)
        self._unrecoverable = _checked("unrecoverable", unrecoverable)
        if self._retry_on == ():
            raise InvalidValue("retry_on", retry_on, "at least one type; for no retry at all say attempts=1")
        for one in self._retry_on or ():
            if issubclass(one, self._unrecoverable):
                raise InvalidValue("retry_on", one, "types that unrecoverable= does not have, nor a type above them")

    def is_final(self, error: Exception) -> bool:
        """Whether no other attempt is worth it, however many are left. A group of errors is judged by what it holds, too."""
        if isinstance(error, _DECIDED):
            return False
        held = list(_held(error))
        if any(isinstance(one, self._unrecoverable) for one in (error, *held)):
            return True
        if self._retry_on is None:
            return False
        worth_it = (*self._retry_on, *_ALWAYS)
        return not (isinstance(error, worth_it) or all(isinstance(one, worth_it) for one in held))


def _held(error: BaseException) -> Iterator[BaseException]:
    """The errors that a group holds, at any depth; of what is no group, itself."""
    if not isinstance(error, BaseExceptionGroup):
        yield error
        return
    for one in cast("BaseExceptionGroup[BaseException]", error).exceptions:
        yield from _held(one)


def _checked(option: str, given: object) -> tuple[type[Exception], ...]:
    types = cast("tuple[object, ...]", given) if isinstance(given, tuple) else (given,)
    for one in types:
        if not (isinstance(one, type) and issubclass(one, Exception)):
            raise InvalidValue(option, cast("object", one), "a type of exceptions, such as ConnectionError, or a tuple of such")
        if issubclass(one, _DECIDED):
            raise InvalidValue(option, one, "errors of the stage's own code: flowq itself decides what follows this one")
    return cast("tuple[type[Exception], ...]", types)
