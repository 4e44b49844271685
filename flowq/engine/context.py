"""`context()`: what a stage knows of its own run, and what it can do beyond returning a value."""

from __future__ import annotations

import datetime
import math
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import ContextVar
from os import PathLike
from typing import Any, ParamSpec, TypeVar, overload

from flowq.artifacts.sink import NewArtifact
from flowq.artifacts.storage import Storage
from flowq.engine.program import CompletedProgram, ProgramOptions, run_program, run_program_async
from flowq.engine.waits import NO_DEFAULT, Waits, spawnable
from flowq.errors import DefinitionError, InvalidValue, NoStageContext, StorageNotConfigured
from flowq.model.artifact import Artifact
from flowq.model.duration import Duration, to_ms
from flowq.model.names import check_name
from flowq.model.outcome import Suspend
from flowq.model.spec import FlowSpec
from flowq.pipeline import Pipeline, Stage
from flowq.pipeline.conversion import convert

D = TypeVar("D")
P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_MESSAGE_CHARS_MAX = 200

_current: ContextVar[StageContext | None] = ContextVar("flowq_stage_context", default=None)


class StageContext:
    """One run of a stage, seen from inside. Get it with `context()`; its methods may be called from any thread.

    Attributes:
        flow_id: the flow.
        stage: the stage's name in the flow.
        attempt: which attempt this is, from 1.
        fence: a number that grows with every run of this stage: give it to systems that refuse older writers.
        idempotency_key: the same for every attempt of this stage: give it to services that must not act twice.
        deadline: when the stage's timeout ends this attempt (UTC); None: it has none.
        children: names of the stages it waited for.
    """

    __slots__ = (
        "_artifacts", "_begin_waits", "_cancelled", "_folder", "_is_given_back", "_is_suspended", "_on_group", "_on_progress",
        "_storage", "_waits",
        "attempt", "children", "deadline", "fence", "flow_id", "idempotency_key", "stage",
    )  # fmt: skip

    def __init__(
        self,
        flow_id: str,
        stage: str,
        attempt: int,
        fence: int,
        *,
        folder: str = "",
        children: tuple[str, ...] = (),
        deadline: datetime.datetime | None = None,
        storage: Storage | None = None,
        on_progress: Callable[[float, str], None] | None = None,
        on_group: Callable[[int, bool], None] | None = None,
        begin_waits: Callable[[StageContext], Waits] | None = None,
    ) -> None:
        self.flow_id = flow_id
        self.stage = stage
        self.attempt = attempt
        self.fence = fence
        self.idempotency_key = f"{flow_id}/{stage}"
        self.deadline = deadline
        self.children = children
        self._folder = folder
        self._storage = storage
        self._on_progress = on_progress
        self._on_group = on_group
        self._artifacts: list[NewArtifact] = []
        self._is_given_back = False
        self._begin_waits = begin_waits
        self._waits: Waits | None = None
        self._is_suspended = False
        self._cancelled = False  # set once, read by polling, from any thread: no need for an Event, which costs 3 µs a stage

    @property
    def cancelled(self) -> bool:
        """Whether this run is over for flowq: cancelled, timed out, or taken over. What it still writes is refused."""
        return self._cancelled

    def progress(self, fraction: float, message: str = "") -> None:
        """Tells how far the stage is. Cheap: at most ten reports a second leave the process.

        Args:
            fraction: from 0 to 1; what lies outside is moved to the nearer end.
            message: one line for people, at most 200 characters are kept.

        Raises:
            InvalidValue: the fraction is no number.
        """
        if type(fraction) not in (int, float) or math.isnan(fraction):
            raise InvalidValue("progress", fraction, "a number from 0 to 1")
        if self._on_progress is not None:
            self._on_progress(min(1.0, max(0.0, float(fraction))), message[:_MESSAGE_CHARS_MAX])

    def new_artifact(self, name: str, *, content_type: str | None = None) -> NewArtifact:
        """A new artifact: `with context().new_artifact("video.mp4") as sink`, or `async with`.

        Write to it with `sink.write(data)`, or let a program write the file `sink.path`; `sink.artifact` is the reference.
        It becomes visible only when this stage completes; leaving the block with an error leaves nothing.

        Raises:
            StorageNotConfigured: the worker has no artifact storage.
            ArtifactNameInvalid: the name could leave the stage's folder.
        """
        if self._storage is None:
            raise StorageNotConfigured(f"stage {self.stage} writes artifact {name!r}")
        new = self._storage.new(self._folder, name, content_type=content_type)
        self._artifacts.append(new)
        return new

    def run(
        self,
        argv: Sequence[str | PathLike[str]],
        *,
        progress: Callable[[str], float | None] | None = None,
        stall: Duration | None = None,
        timeout: Duration | None = None,
        cwd: str | PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedProgram:
        """Runs a program in a process group of its own, which ends with the stage whatever happens to the worker.

        Args:
            argv: the program and its arguments; no shell.
            progress: called with each line of its stdout; returns the fraction done, or None.
            stall: stop it when it made no progress for so long.
            timeout: stop it after so long.
            cwd: its working directory.
            env: its whole environment.

        Raises:
            ProgramFailed: it ended with an error; carries the end of its stderr.
            ProgramStalled, ProgramTimedOut, ProgramStopped: it was stopped.
        """
        return run_program(argv, **self._options(progress, stall, timeout, cwd, env))

    async def run_async(
        self,
        argv: Sequence[str | PathLike[str]],
        *,
        progress: Callable[[str], float | None] | None = None,
        stall: Duration | None = None,
        timeout: Duration | None = None,
        cwd: str | PathLike[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> CompletedProgram:
        """`run` for async stages."""
        return await run_program_async(argv, **self._options(progress, stall, timeout, cwd, env))

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
    def wait_for_signal(self, name: str, type: type[T] = ..., timeout: Duration | None = ...) -> Coroutine[Any, Any, T]: ...
    @overload
    def wait_for_signal(
        self, name: str, type: type[T] = ..., timeout: Duration | None = ..., *, default: D
    ) -> Coroutine[Any, Any, T | D]: ...
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
        check_name(name, "signal")
        timeout_ms = None if timeout is None else to_ms(timeout, "timeout")
        waits = self._waiting()
        return waits.signal(
            waits.number(f"timer {name}"), name, lambda value: convert(value, type, f"signal {name}"), timeout_ms, default
        )

    @overload
    def spawn(self, what: FlowSpec[R], /, *, key: str | None = ...) -> Coroutine[Any, Any, R]: ...
    @overload
    def spawn(self, what: Stage[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def spawn(self, what: Pipeline[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]: ...
    @overload
    def spawn(
        self, what: Stage[..., R] | Pipeline[..., R], /, *args: Any, key: str, **kwargs: Any
    ) -> Coroutine[Any, Any, R]: ...
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

    def committed_artifacts(self) -> tuple[Artifact, ...]:
        """The artifacts this run has finished writing."""
        return tuple(new.written for new in self._artifacts if new.written is not None)

    def cancel(self) -> None:
        """Makes `cancelled` true and stops programs that `run` runs. Called by the worker."""
        self._cancelled, self._is_suspended = True, False

    def give_back(self) -> None:
        """Like `cancel`, because the worker stops: whatever the stage makes of it costs no attempt. Called by the worker."""
        self._is_given_back = self._cancelled = True

    @property
    def is_given_back(self) -> bool:
        """Whether the worker stops before this run has ended."""
        return self._is_given_back

    @property
    def suspension(self) -> Suspend | None:
        """What the worker reports if this run is suspended; None: it is not."""
        return self._waits.outcome if self._is_suspended and self._waits is not None else None

    def end_waits(self) -> None:
        """The function has ended. Called by the worker."""
        if self._waits is not None:
            self._waits.close()

    def suspend(self) -> bool:
        """Like `cancel`, because the stage waits: whatever it makes of it, it begins again later. Called by its waits.

        False: the run is over already.
        """
        if not self._cancelled:
            self._is_suspended = self._cancelled = True
        return self._is_suspended

    def _waiting(self) -> Waits:
        if self._waits is None:
            if self._begin_waits is None:
                raise DefinitionError(
                    f"stage {self.stage} can't wait here", "only a worker can suspend a stage: let one run it in the test"
                )
            self._waits = self._begin_waits(self)
        return self._waits

    def _options(
        self,
        progress: Callable[[str], float | None] | None,
        stall: Duration | None,
        timeout: Duration | None,
        cwd: str | PathLike[str] | None,
        env: Mapping[str, str] | None,
    ) -> ProgramOptions:
        def on_line(line: str) -> float | None:
            fraction = progress(line) if progress is not None else None
            if fraction is not None:
                self.progress(fraction)
            return fraction

        options: ProgramOptions = {"cancelled": lambda: self._cancelled, "cwd": cwd, "env": env}
        if progress is not None:
            options["on_line"] = on_line
        if stall is not None:
            options["stall_seconds"] = to_ms(stall, "stall", least_ms=1) / 1000
        if timeout is not None:
            options["timeout_seconds"] = to_ms(timeout, "timeout", least_ms=1) / 1000
        if self._on_group is not None:
            options["on_group"] = self._on_group
        return options


def context() -> StageContext:
    """The run of the stage that calls this.

    Raises:
        NoStageContext: no stage is running here.
    """
    current = _current.get()
    if current is None:
        raise NoStageContext
    return current


def enter(stage_context: StageContext) -> Any:
    """Makes `context()` give this one in the current task or thread; `leave` undoes it."""
    return _current.set(stage_context)


def leave(entered: Any) -> None:
    """Undoes `enter`."""
    _current.reset(entered)
