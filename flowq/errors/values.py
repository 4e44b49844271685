"""Values that are out of range, do not fit, or can't be stored."""

from __future__ import annotations

from flowq.errors.root import FlowqError, shown


class InvalidValue(FlowqError):
    """A value is out of range: names the field, shows the value, says what is expected."""

    def __init__(self, field: str, value: object, expected: str) -> None:
        super().__init__(f"{field} is {shown(value)}", f"expected {expected}")
        self.field = field


class WrongArguments(InvalidValue):
    """A stage or pipeline was called with arguments it does not take, or without one it needs."""

    def __init__(self, callee: str, problem: str, signature: str) -> None:
        FlowqError.__init__(self, f"{callee}() {problem}", f"it takes {signature}")
        self.field = callee


class ValueNotStorable(FlowqError):
    """An input or a result can't be stored.

    Attributes:
        where: the stage or pipeline whose value it is.
        path: the field inside the value, such as `video.frames[3]`.
    """

    def __init__(self, where: str, path: str, reason: str) -> None:
        super().__init__(
            f"{where}: {path} can't be stored: {reason}",
            "use numbers, text, bytes, lists, dicts with text keys, dataclasses or msgspec.Struct; "
            "write large or binary data to an artifact",
        )
        self.where = where
        self.path = path


class ValueTooLarge(FlowqError):
    """An input or a result is above the limit."""

    def __init__(self, where: str, path: str, size_bytes: int, limit_bytes: int, remedy: str) -> None:
        super().__init__(f"{where}: {path} takes {size_bytes:,} bytes, more than {limit_bytes:,}", remedy)
