"""`Failure`: what is kept of an exception: its type, text and traceback, bounded and free of control characters."""

from __future__ import annotations

import traceback
from types import TracebackType
from typing import Any, Literal

import msgspec

from flowq.errors import FlowqError

FailureKind = Literal["error", "timeout", "poisoned", "unrecoverable", "stalled"]

# The msgpack extension that stands for a failure where a result would be.
FAILURE_CODE = 2
# Where an extension has its code, by its first byte; a failure is never shorter.
_CODE_AT = {0xC7: 2, 0xC8: 3, 0xC9: 5}
_MESSAGE_CHARS_MAX = 500
_TRACEBACK_CHARS_MAX = 2_500
_OUR_PACKAGES = ("flowq", "asyncio", "concurrent", "contextlib")


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """Why an attempt failed.

    Attributes:
        error_type: the exception's class name.
        message: its text, at most 500 characters.
        traceback: at most the last 2,500 characters of its traceback, without the values of variables.
        kind: `error`; `timeout`; `stalled` (it told no progress); `poisoned` (it crashed its process too often);
            `unrecoverable` (the stage said so, by raising `Unrecoverable` or by the types of its `retry_on=`, `unrecoverable=`).
    """

    error_type: str
    message: str
    traceback: str = ""
    kind: FailureKind = "error"

    @classmethod
    def of(cls, error: BaseException, kind: FailureKind = "error") -> Failure:
        """The failure for an exception, whatever its `__str__` and its other fields are."""
        try:
            message = str(error)
        except Exception:  # a user's __str__ may raise; the stage's failure must still be recorded
            message = f"<{type(error).__name__} whose text can't be shown>"
        try:
            trace = "".join(_traced(error).format())
        except Exception:  # a SyntaxError with odd arguments, or a property of the user's: the same
            trace = ""
        return cls(type(error).__name__, _clean(message)[:_MESSAGE_CHARS_MAX], _clean(trace)[-_TRACEBACK_CHARS_MAX:], kind)

    @property
    def line(self) -> str:
        """`ValueError: the first line of its text`."""
        first = self.message.splitlines()[0] if self.message else ""
        return f"{self.error_type}: {first}" if first else self.error_type


def _from_user_code(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the first frame that is the user's, if there is one: how flowq got there helps nobody."""
    step = trace
    while step is not None and step.tb_frame.f_globals.get("__name__", "").split(".")[0] in _OUR_PACKAGES:
        step = step.tb_next
    return step


def _traced(error: BaseException) -> traceback.TracebackException:
    """The traceback without flowq's own frames, which help nobody: those above the user's, and, where what is raised is flowq's
    own word for what happened, those below."""
    trace = _from_user_code(error.__traceback__)
    traced = traceback.TracebackException(type(error), error, trace)
    if isinstance(error, FlowqError):
        frames = [frame for frame, _ in traceback.walk_tb(trace)]
        while len(frames) > 1 and frames[-1].f_globals.get("__name__", "").split(".")[0] == _OUR_PACKAGES[0]:
            del frames[-1], traced.stack[-1]
    return traced


def _clean(text: str) -> str:
    text = text.encode("utf-8", "backslashreplace").decode("utf-8")
    return "".join(char if char.isprintable() or char in "\n\t" else _escaped(ord(char)) for char in text)


def _escaped(code: int) -> str:
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class StageFailure(msgspec.Struct, frozen=True):
    """What a stage gets in the place of a result when the child failed for good and the failure is tolerated.

    Attributes:
        stage: the name of the stage that failed.
        error_type: the exception's class name.
        message: its text, at most 500 characters.
        kind: as in `Failure`.
        attempts: how many attempts were made.
    """

    stage: str
    error_type: str
    message: str
    kind: FailureKind
    attempts: int

    @classmethod
    def of(cls, stage: str, failure: Failure, attempts: int) -> StageFailure:
        """The failure of a stage after so many attempts."""
        return cls(stage, failure.error_type, failure.message, failure.kind, attempts)

    def packed(self) -> bytes:
        """As it is stored where the result would be: an extension of its own, so that no result can be taken for one."""
        return msgspec.msgpack.encode(msgspec.msgpack.Ext(FAILURE_CODE, msgspec.msgpack.encode(self)))


def is_failure(data: bytes) -> bool:
    """Whether stored data is a StageFailure. Looks at the first bytes only."""
    code_at = _CODE_AT.get(data[0]) if data else None
    return code_at is not None and data[code_at] == FAILURE_CODE


def unpacked(data: bytes) -> Any:
    """A stored result as plain data, or the StageFailure that stands in its place."""
    return _decoder.decode(data)


def _extension(code: int, data: memoryview) -> Any:
    if code != FAILURE_CODE:
        raise msgspec.DecodeError(f"an extension of code {code}")
    return msgspec.msgpack.decode(data, type=StageFailure)


_decoder = msgspec.msgpack.Decoder(ext_hook=_extension)
