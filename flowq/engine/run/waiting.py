"""What a stage can wait for without holding a slot: the part of `context()` that suspends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar, overload

from flowq.engine.flow.spawned import spawnable
from flowq.engine.run.waits import NO_DEFAULT, Waits
from flowq.errors import DefinitionError, InvalidValue
from flowq.model.duration import Duration, to_ms
from flowq.model.names import check_name
from flowq.model.spec import FlowSpec
from flowq.pipeline import Pipeline, Stage
from flowq.pipeline.conversion import convert

D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


class Waiting:
    """A run of a stage, as far as it waits.

    Attributes:
        stage: the stage's name in the flow.
        waits: what it has waited for; None: nothing yet, as in most runs.
    """

    __slots__ = ("_begin_waits", "_has_ended", "stage", "waits")

    # Set by `StageContext`, because each call that a run costs is one per stage.
    _begin_waits: Callable[[Any], Waits] | None
    _has_ended: bool
    stage: str
    waits: Waits | None

    def sleep(self, duration: Duration) -> Coroutine[Any, Any, None]:
        """Waits without holding a slot: `await context().sleep("6h")`. For `async def` stages.

        The stage is suspended; when it is resumed its function starts again at its first line, and this sleep, like all that it
        awaited here before, is over at once. So between two waits stands only what may be done twice. What runs beside a wait in
        the same stage is cancelled, and begins again.

        Args:
            duration: a `timedelta`, seconds, or a string such as `"90s"`; up to 0.1 s it sleeps in place.

        Raises:
            InvalidValue: it is no duration, or the stage has had 1,000 waits that end at a time.
            DefinitionError: the stage is a plain `def`.
        """
        wanted_ms, waits = to_ms(duration, "duration"), self._waiting()
        return waits.sleep(waits.number("timer"), wanted_ms)

    @overload
    def wait_for_signal(self, name: str, type: type[T], timeout: Duration | None = ...) -> Coroutine[Any, Any, T]: ...
    @overload
    def wait_for_signal(
        self, name: str, type: type[T], timeout: Duration | None = ..., *, default: D
    ) -> Coroutine[Any, Any, T | D]: ...
    @overload
    def wait_for_signal(self, name: str, *, timeout: Duration | None = ..., default: Any = ...) -> Coroutine[Any, Any, Any]: ...
    def wait_for_signal(
        self, name: str, type: Any = Any, timeout: Duration | None = None, *, default: Any = NO_DEFAULT
    ) -> Coroutine[Any, Any, Any]:
        """Waits for somebody to send a value: `flow.signal(name, value)` or `flowq signal`. Suspends like `sleep`.

        A signal belongs to its flow: all who wait for its name get the value, however late they ask.

        Args:
            name: the signal's name.
            type: what its value is decoded to. One that does not fit is refused: the stage waits on, `flowq inspect` says why.
            timeout: how long to wait, from the first time on.
            default: what to return when that is over; without one it is an error.

        Raises:
            SignalTimedOut: it did not come in time.
            InvalidValue: no signal can have this name; the timeout is no duration.
            DefinitionError: the stage is a plain `def`.
        """
        timeout_ms = None if timeout is None else to_ms(timeout, "timeout")
        return self.await_signal(
            check_name(name, "signal"), lambda value: convert(value, type, f"signal {name}"), timeout_ms, default
        )

    def await_signal(
        self, name: str, read: Callable[[Any], Any], timeout_ms: int | None, default: Any
    ) -> Coroutine[Any, Any, Any]:
        """`wait_for_signal` for flowq's own stages: `read` makes the value of its plain data, or raises InvalidValue."""
        waits = self._waiting()
        return waits.signal(waits.number(f"timer {name}"), name, read, timeout_ms, default)

    @overload
    def spawn(self, what: FlowSpec[R], /, *, key: str | None = ...) -> Coroutine[Any, Any, R]: ...
    @overload
    def spawn(self, what: Stage[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def spawn(self, what: Pipeline[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def spawn(self, what: Stage[..., R] | Pipeline[..., R], /, *args: Any, key: str, **kwargs: Any) -> Coroutine[Any, Any, R]: ...
    def spawn(self, what: Any, /, *args: Any, key: str | None = None, **kwargs: Any) -> Coroutine[Any, Any, Any]:
        """Runs a stage or a pipeline as a flow of its own beneath this one, and gives its result. Suspends like `sleep`.

        The flow is found again, not made twice, when the stage begins again: by its key; or by what it runs, its inputs, and
        which of such calls it is. It is cancelled with this one, and shown by its `inspect`. If it failed, the next attempt of
        this stage, or a retry by hand, runs again what failed in it.

        Args:
            what: a stage, a pipeline, or the flow that one describes, such as `encode.flow(path)`.
            *args, **kwargs: its arguments.
            key: a name for it, unique in this stage.

        Raises:
            FlowFailed, FlowCancelled: it did not complete.
            FlowConflict: this stage has spawned another with this key.
            SpawnedTooDeep: 16 flows stand above it.
            WrongArguments, InvalidValue, DefinitionError, ValueNotStorable, ValueTooLarge: the flow is refused; or the stage is a
                plain `def`.
        """
        if key is not None and not (isinstance(key, str) and key):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValue("key", key, "a text that is not empty")
        spec, waits = spawnable(what, args, kwargs), self._waiting()
        return waits.spawn(waits.number(f"flow {spec.fingerprint.hex()}"), spec, key)

    def end_waits(self) -> None:
        """The function has ended: nothing of it waits any more, nor does what it has left behind in a task."""
        self._has_ended = True
        if self.waits is not None:
            self.waits.close()

    def _waiting(self) -> Waits:
        if self._has_ended:
            raise asyncio.CancelledError
        if self.waits is None:
            if self._begin_waits is None:
                raise DefinitionError(
                    f"stage {self.stage} can't wait here", "only a worker can suspend a stage: let one run it in the test"
                )
            self.waits = self._begin_waits(self)
        return self.waits
