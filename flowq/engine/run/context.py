"""`context()`: what a stage knows of its own run, and what it can do beyond returning a value."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from os import PathLike
from typing import TYPE_CHECKING, Any, SupportsFloat

from flowq.artifacts.keys import stage_folder
from flowq.artifacts.sink import NewArtifact
from flowq.artifacts.storage import Storage
from flowq.engine.process.program import CompletedProgram, ProgramOptions, run_program, run_program_async
from flowq.engine.run.stage_log import StageLog
from flowq.engine.run.telling import Telling
from flowq.engine.run.waiting import Waiting
from flowq.errors import NoStageContext, StorageNotConfigured
from flowq.model.artifact import Artifact
from flowq.model.duration import Duration, to_ms
from flowq.model.outcome import Suspend, Token
from flowq.model.usage import metered

if TYPE_CHECKING:
    from flowq.engine.run.waits import Waits

_current: ContextVar[StageContext | None] = ContextVar("flowq_stage_context", default=None)


class StageContext(Waiting, Telling):
    """One run of a stage, seen from inside. Get it with `context()`; its methods may be called from any thread.

    Attributes:
        flow_id: the flow.
        stage: the stage's name in the flow.
        attempt: which attempt this is, from 1.
        fence: a number that grows with every run of this stage: give it to systems that refuse older writers.
        deadline: when the stage's timeout ends this attempt (UTC); None: it has none.
        queue: the queue that it was claimed from.
        is_given_back: whether the worker stops before this run has ended.
    """

    __slots__ = (
        "_amounts", "_artifacts", "_cancelled", "_children", "_is_suspended", "_log", "_on_group", "_on_log", "_on_progress",
        "_storage", "_token", "_told", "attempt", "deadline", "fence", "flow_id", "is_given_back", "queue",
    )  # fmt: skip

    def __init__(
        self,
        flow_id: str,
        stage: str,
        attempt: int,
        fence: int,
        *,
        queue: str = "",
        token: Token | str = "",
        children: Callable[[], tuple[str, ...]] = tuple,
        deadline: datetime.datetime | None = None,
        storage: Storage | None = None,
        on_progress: Callable[[float, str], None] | None = None,
        on_group: Callable[[int, bool], None] | None = None,
        on_log: Callable[[], None] | None = None,
        begin_waits: Callable[[StageContext], Waits] | None = None,
    ) -> None:
        self.flow_id = flow_id
        self.stage = stage
        self.attempt = attempt
        self.fence = fence
        self.deadline = deadline
        self._children = children
        self.queue = queue
        self._token = token
        self._storage = storage
        self._on_progress = on_progress
        self._on_group = on_group
        self._artifacts: list[NewArtifact] = []
        self._amounts: dict[str, float] = {}
        self._on_log = on_log
        self._log: StageLog | None = None
        self.is_given_back = False
        self._begin_waits = begin_waits
        self.waits = None
        self._has_ended = False
        self._is_suspended = False
        self._told = 0.0, ""
        self._cancelled = False  # set once, read by polling, from any thread: no need for an Event, which costs 3 µs a stage

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this stage: give it to services that must not act twice."""
        return f"{self.flow_id}/{self.stage}"

    @property
    def children(self) -> tuple[str, ...]:
        """Names of the stages it waited for."""
        return self._children()

    @property
    def cancelled(self) -> bool:
        """Whether this run is over for flowq: cancelled, timed out, or taken over. What it still writes is refused."""
        return self._cancelled

    @property
    def folder(self) -> str:
        """Where in the storage its artifacts go. Read by the worker."""
        return stage_folder(self.flow_id, self.stage, str(self._token))

    def usage(self, **amounts: SupportsFloat) -> None:
        """Meters what this run uses up: `context().usage(tokens=1_200, seconds=3.5)`; what is told again is added.

        The sums are shown by `flowq inspect`, and summed per pipeline, tenant and day by `flowq usage`. They are committed with
        the outcome of the run, whether it completed or failed: what a retried attempt used counts too; what a run used that
        was cancelled, or lost with its process, does not.

        Args:
            **amounts: name → number of at least 0, also numpy's; at most 20 names, and 10^15 of each in one run.

        Raises:
            InvalidValue: an amount is no such number, or there are too many names.
        """
        self._amounts.update(metered(self._amounts, amounts))

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
        new = self._storage.new(self.folder, name, content_type=content_type)
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
            progress: called with each line of its stdout; returns the fraction of the stage that is done, or None. Programs that
                run one after the other share it: 0 to 0.5, and 0.5 to 1.
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

    def committed_artifacts(self) -> tuple[Artifact, ...]:
        """The artifacts this run has finished writing."""
        return tuple(new.written for new in self._artifacts if new.written is not None) if self._artifacts else ()

    @property
    def amounts(self) -> dict[str, float]:
        """What this run has used up. Read by the worker."""
        return self._amounts

    @property
    def log(self) -> StageLog | None:
        """What it has logged; None: nothing. Read by the worker."""
        return self._log

    @property
    def has_notes(self) -> bool:
        """Whether there is more to tell of it than its outcome."""
        return bool(self._amounts or self._log)

    def opened_log(self) -> StageLog | None:
        """Where what it logs is kept; None: nobody wants it. Called for each message."""
        if self._log is None and self._on_log is not None:
            self._log = StageLog(self.attempt, self._on_log)
        return self._log

    def cancel(self) -> None:
        """Makes `cancelled` true and stops programs that `run` runs. Called by the worker."""
        self._cancelled, self._is_suspended = True, False

    def give_back(self) -> None:
        """Like `cancel`, because the worker stops: whatever the stage makes of it costs no attempt. Called by the worker."""
        self.is_given_back = self._cancelled = True

    @property
    def suspension(self) -> Suspend | None:
        """What the worker reports if this run is suspended; None: it is not."""
        return self.waits.outcome if self._is_suspended and self.waits is not None else None

    def suspend(self) -> bool:
        """Like `cancel`, because the stage waits: whatever it makes of it, it begins again later. Called by its waits.

        False: the run is over already.
        """
        if not self._cancelled:
            self._is_suspended = self._cancelled = True
        return self._is_suspended

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


def log_of_this_run() -> StageLog | None:
    """The log of the run that the calling code belongs to; None: it belongs to none."""
    current = _current.get()
    return None if current is None else current.opened_log()


def enter(stage_context: StageContext) -> Any:
    """Makes `context()` give this one in the current task or thread; `leave` undoes it."""
    return _current.set(stage_context)


def forget(stage_context: StageContext) -> None:
    """The run is over: its task, which it knows, no longer knows it. Else they are a circle, left to the garbage collector."""
    if _current.get() is stage_context:  # else this is another task's context: a coroutine may be destroyed anywhere
        _current.set(None)


def leave(entered: Any) -> None:
    """Undoes `enter`."""
    _current.reset(entered)
