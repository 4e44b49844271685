"""What goes wrong around a running stage: its context, its programs, its time and its slots."""

from __future__ import annotations

from collections.abc import Sequence

from flowq.errors.root import FlowqError, shown


class NoStageContext(FlowqError):
    """`context()` was called outside a stage."""

    def __init__(self) -> None:
        super().__init__(
            "context() works only while a stage runs",
            "to test a stage's function, use `with flowq.testing.stage_context(tmp_path):`",
        )


class ProgramFailed(FlowqError):
    """A program that a stage ran ended with an error.

    Attributes:
        argv: the command.
        exit_code: its exit code; negative: the signal that killed it.
        stderr_tail: the last 2,000 characters it wrote to stderr.
    """

    def __init__(self, argv: Sequence[str], exit_code: int, stderr_tail: str) -> None:
        how = f"was killed by signal {-exit_code}" if exit_code < 0 else f"ended with exit code {exit_code}"
        last = stderr_tail.strip().splitlines()[-1] if stderr_tail.strip() else "it wrote nothing to stderr"
        super().__init__(f"{argv[0]} {how}: {last}")
        self.argv = tuple(argv)
        self.exit_code = exit_code
        self.stderr_tail = stderr_tail


class ProgramStalled(FlowqError):
    """A program made no progress for longer than `stall` and was killed."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        super().__init__(
            f"{argv[0]} made no progress for {seconds:g} s and was killed", "raise stall=, or find what it waits for"
        )
        self.argv = tuple(argv)


class ProgramTimedOut(FlowqError, TimeoutError):
    """A program ran longer than its `timeout` and was killed."""

    def __init__(self, argv: Sequence[str], seconds: float) -> None:
        super().__init__(
            f"{argv[0]} ran longer than its timeout of {seconds:g} s and was killed", "raise timeout=, or give it less to do"
        )
        self.argv = tuple(argv)


class ProgramStopped(FlowqError):
    """A program was stopped because the stage that ran it was cancelled, timed out or lost its lease."""

    def __init__(self, argv: Sequence[str]) -> None:
        super().__init__(f"{argv[0]} was stopped together with its stage")
        self.argv = tuple(argv)


class ProgramNotStarted(FlowqError):
    """A program could not be started: it is missing, is not executable, or the system refused."""

    def __init__(self, argv: Sequence[str], reason: str, remedy: str) -> None:
        super().__init__(f"{shown(argv[0]) if argv else 'the program'} was not started: {reason}", remedy)
        self.argv = tuple(argv)


class SlotsUnusable(FlowqError):
    """The directory in which the processes of a host share their queue slots can't be used."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(
            f"queue slots can't be kept in {path}: {reason}",
            "name a directory on a local disk that belongs to this user, with mode 0700",
        )


class StageTimedOut(FlowqError):
    """The stage ran longer than its timeout."""

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(
            f"stage {stage} ran longer than its timeout of {seconds:g} s", "raise timeout= on the stage, or make it faster"
        )


class StageStalled(FlowqError):
    """The stage told no progress for too long."""

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(
            f"stage {stage} told no progress for {seconds:g} s",
            "call context().progress(…) more often, or raise stall= on the stage",
        )


class LimitNotSet(FlowqError):
    """A stage uses a limit that nobody has set: unlimited by mistake is worse than failed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no limit {name!r}", f"set it: flowq limits set {name} --rate requests=100/m")
        self.name = name


class SignalTimedOut(FlowqError, TimeoutError):
    """A stage waited for a signal that did not come in time, and has no default."""

    def __init__(self, stage: str, signal: str) -> None:
        super().__init__(
            f"stage {stage} waited for signal {signal!r}, which did not come in time",
            "retry the flow to wait again; or give wait_for_signal a default",
        )
        self.stage = stage
        self.signal = signal


class SpawnedTooDeep(FlowqError):
    """A stage spawned a flow beneath more flows than may stand above one."""

    def __init__(self, stage: str, depth_max: int) -> None:
        super().__init__(
            f"stage {stage} would spawn a flow with more than {depth_max} flows above it",
            "does a pipeline spawn itself without end? Give it an end, or spawn side by side",
        )
        self.stage = stage
