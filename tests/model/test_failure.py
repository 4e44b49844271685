"""What is kept of an exception: bounded, one line for lists, and nothing that harms a terminal."""

from __future__ import annotations

import msgspec
import pytest

from flowq.errors import FlowCancelled
from flowq.model.failure import Failure


def raised(error: BaseException) -> BaseException:
    """The error with a traceback."""
    try:
        secret = "a secret value"  # noqa: F841  must not be shown
        raise error
    except BaseException as caught:
        return caught


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x" * 1_000_000),
        ValueError("\x1b[31mred\x1b[0m\x9b31m\x00\r\n\u202e"),
        ValueError(b"\xff\xfe"),
        ValueError("\ud800 alone"),
        _Unprintable(),
        ExceptionGroup("several", [ValueError(1), ExceptionGroup("more", [OSError(2)])]),
        KeyboardInterrupt(),
        SystemExit(3),
    ],
)
def test_every_exception_gives_a_failure_that_can_be_stored(error: BaseException) -> None:
    failure = Failure.of(raised(error))
    assert len(failure.message) <= 500
    assert len(failure.traceback) <= 2_500
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(failure), type=Failure) == failure
    assert not set(failure.message + failure.traceback) & {"\x1b", "\x9b", "\x00", "\r", "\u202e"}


def test_its_line_is_the_type_and_the_first_line_of_its_text() -> None:
    assert Failure.of(ValueError("first\nsecond")).line == "ValueError: first"
    assert Failure("Poisoned", "").line == "Poisoned"


def test_the_values_of_variables_are_not_kept() -> None:
    failure = Failure.of(raised(ValueError("x")))
    assert "test_failure.py" in failure.traceback
    assert "a secret value" not in failure.traceback


def test_a_cause_that_leads_to_itself_is_followed_once() -> None:
    error = ValueError("round")
    error.__cause__ = error
    assert Failure.of(raised(error)).message == "round"


def called(*, is_ours: bool, error: BaseException) -> BaseException:
    """The error, raised below a function of a user in a module of flowq, or in one of somebody else."""
    namespace = {"__name__": "flowq.engine.somewhere" if is_ours else "flowqueue", "error": error}
    exec(compile("def raise_it():\n    raise error", "below.py", "exec"), namespace)
    try:
        namespace["raise_it"]()
    except BaseException as caught:
        return caught
    raise AssertionError("it raises")


@pytest.mark.parametrize(
    ("is_ours", "error", "is_shown"),
    [
        (True, FlowCancelled("child", "by hand"), False),
        (False, FlowCancelled("child", "by hand"), True),
        (True, TypeError("a fault of flowq"), True),
    ],
)
def test_frames_of_flowq_below_the_users_are_kept_only_for_what_is_no_word_of_flowq(
    is_ours: bool, error: BaseException, is_shown: bool
) -> None:
    failure = Failure.of(called(is_ours=is_ours, error=error))
    assert "test_failure.py" in failure.traceback
    assert ("below.py" in failure.traceback) is is_shown
    assert failure.message in failure.traceback
