"""Runs a program for a stage: in a process group of its own, watched for stalls, and never left behind.

`context().run` calls `run_program` in the stage's thread and `run_program_async` in an async stage. The program is
started through a shell that waits for one line before it becomes the program: by then the guard and the supervisor
know its group, so that not even a SIGKILL at the wrong instant leaves an orphan. (The usual way, PR_SET_PDEATHSIG set
between fork and exec, misses the program's own children and runs Python in a fork of a process with many threads.)
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import math
import os
import selectors
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from typing import TypedDict, Unpack

import msgspec

from flowq.engine.process.process_groups import group_guard, has_exited, kill_group
from flowq.engine.process.program_output import LineSplitter, Tail
from flowq.errors import InvalidValue, ProgramFailed, ProgramNotStarted, ProgramStalled, ProgramStopped, ProgramTimedOut, shown

STDOUT_TAIL_BYTES = 65_536
STDERR_TAIL_BYTES = 8_192
_STDERR_SHOWN_CHARS = 2_000
_GRACE_SECONDS = 5.0
# How often `cancelled` and the clocks are looked at. Output and the exit are noticed at once.
_LOOK_SECONDS = 0.1
_READ_BYTES = 65_536
# After the exit only what is left in the pipes is read: they may be held open by a process that left the group.
_LEFTOVER_READS_MAX = 64
# exec replaces the shell, so the pid, the group and the exit code are the program's own.
_GATE = 'read -r go && exec "$@" </dev/null'


class CompletedProgram(msgspec.Struct, frozen=True):
    """A program that ended with exit code 0.

    Attributes:
        seconds: how long it ran.
        stdout_tail: the last 65,536 bytes that it wrote to stdout, as text.
        stderr_tail: the last 8,192 bytes that it wrote to stderr, as text.
    """

    seconds: float
    stdout_tail: str
    stderr_tail: str


class ProgramOptions(TypedDict, total=False):
    """How to run a program; every option may be left out.

    Attributes:
        on_line: called with each line of stdout, without its end, in the thread that runs the program; `\\r` ends a line
            too. It may return a fraction: how far the program is. What it raises stops the program and is raised.
        stall_seconds: stop the program when it made no progress for so long. Progress is a *larger* fraction returned by
            `on_line`; until it has returned one, any output is progress. None: never.
        timeout_seconds: stop it after so long. None: never.
        cancelled: asked ten times a second whether to stop it, such as a `threading.Event`'s `is_set`.
        on_group: told its process group, and whether the group is alive: once before it runs, once after.
        grace_seconds: from SIGTERM to SIGKILL; 5 by default.
        cwd: its working directory; None: that of this process.
        env: its whole environment; None: that of this process.
    """

    on_line: Callable[[str], float | None] | None
    stall_seconds: float | None
    timeout_seconds: float | None
    cancelled: Callable[[], bool]
    on_group: Callable[[int, bool], None]
    grace_seconds: float
    cwd: str | os.PathLike[str] | None
    env: Mapping[str, str] | None


def run_program(argv: Sequence[str | os.PathLike[str]], **options: Unpack[ProgramOptions]) -> CompletedProgram:
    """Runs a program to its end and returns how it went. Blocks; its stdin is empty.

    When it ends, what it left running in its process group is killed.

    Raises:
        InvalidValue, ProgramNotStarted: the command is one text, no list; the program is missing or not executable.
        ProgramFailed: its exit code was not 0; carries the end of its stderr.
        ProgramStalled, ProgramTimedOut, ProgramStopped: it was stopped for that reason, with all its group.
    """
    if isinstance(argv, str | bytes | os.PathLike):
        raise InvalidValue("the program to run", argv, "a list such as ['ls', '-l']: no shell takes it apart")
    return _Run([os.fspath(part) for part in argv], options).to_its_end()


async def run_program_async(argv: Sequence[str | os.PathLike[str]], **options: Unpack[ProgramOptions]) -> CompletedProgram:
    """`run_program` for coroutines. `on_line` and `on_group` are called in another thread, with this task's context.

    Cancelling the task stops the program; the task ends when the program has.
    """
    abandoned = threading.Event()
    asked = options.get("cancelled")
    options["cancelled"] = lambda: abandoned.is_set() or (asked is not None and asked())
    outcome: concurrent.futures.Future[CompletedProgram] = concurrent.futures.Future()

    def work() -> None:
        try:
            outcome.set_result(run_program(argv, **options))
        except BaseException as error:
            outcome.set_exception(error)

    outcome.set_running_or_notify_cancel()
    # A thread of its own, because the loop's executor is bounded and a program may run for hours.
    threading.Thread(target=contextvars.copy_context().run, args=(work,), name="flowq-program", daemon=True).start()
    ended = asyncio.wrap_future(outcome)
    try:
        return await asyncio.shield(ended)
    except asyncio.CancelledError:
        abandoned.set()
        await _settled(ended)
        raise


async def _settled(ended: asyncio.Future[CompletedProgram]) -> None:
    while not ended.done():
        with contextlib.suppress(asyncio.CancelledError):  # it can't be cancelled more than it is
            await asyncio.wait([ended])
    ended.exception()  # seen: or asyncio would log that nobody asked for it


class _Run:
    def __init__(self, argv: list[str], options: ProgramOptions) -> None:
        self._argv = argv
        self._options = options
        self._stdout = Tail(STDOUT_TAIL_BYTES)
        self._stderr = Tail(STDERR_TAIL_BYTES)
        self._splitter = LineSplitter()
        self._takers: dict[int, Callable[[bytes], None]] = {}
        self._fraction = -math.inf
        self._began_at = self._progressed_at = time.monotonic()
        self._stopped_by: Exception | None = None
        self._kill_at: float | None = None  # None until the program was asked to end

    def to_its_end(self) -> CompletedProgram:
        process = self._started()
        try:
            self._open_gate(process)
            self._attend(process)
            kill_group(process.pid)
            self._read_what_is_left()
        finally:
            self._bury(process)
        if self._stopped_by is not None:
            raise self._stopped_by
        if process.returncode:
            raise ProgramFailed(self._argv, process.returncode, self._stderr.text()[-_STDERR_SHOWN_CHARS:])
        return CompletedProgram(time.monotonic() - self._began_at, self._stdout.text(), self._stderr.text())

    def _started(self) -> subprocess.Popen[bytes]:
        cwd, env = self._options.get("cwd"), self._options.get("env")
        path = _found(self._argv, cwd, env)
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _GATE, "sh", path, *self._argv[1:]], bufsize=0, stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, cwd=cwd, env=env,
            )  # fmt: skip
        except (OSError, ValueError) as error:  # too many processes, too long a command, a NUL character
            raise ProgramNotStarted(self._argv, str(error), "") from error
        for stream, take in ((process.stdout, self._take_stdout), (process.stderr, self._stderr.add)):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)
            self._takers[stream.fileno()] = take
        return process

    def _open_gate(self, process: subprocess.Popen[bytes]) -> None:
        group_guard.watch(process.pid)
        self._announce(process.pid, alive=True)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # killed already; its exit code will tell
            process.stdin.write(b"go\n")
        process.stdin.close()

    def _attend(self, process: subprocess.Popen[bytes]) -> None:
        with selectors.DefaultSelector() as selector, _exit_watched(process.pid, selector):
            for descriptor in self._takers:
                selector.register(descriptor, selectors.EVENT_READ)
            while not has_exited(process):
                for key, _ in selector.select(_LOOK_SECONDS if self._takers else _LOOK_SECONDS / 10):
                    if key.fd in self._takers and not self._read(key.fd):
                        selector.unregister(key.fd)
                self._judge(process)

    def _read(self, descriptor: int) -> bool:
        """Reads once; False at the end of the stream."""
        try:
            chunk = os.read(descriptor, _READ_BYTES)
        except BlockingIOError:
            return True
        if not chunk:
            del self._takers[descriptor]
            return False
        if self._fraction == -math.inf:
            self._progressed_at = time.monotonic()
        self._takers[descriptor](chunk)
        return True

    def _take_stdout(self, chunk: bytes) -> None:
        self._stdout.add(chunk)
        if self._options.get("on_line") is not None:
            self._report(self._splitter.lines(chunk))

    def _report(self, lines: list[str]) -> None:
        on_line = self._options.get("on_line")
        for line in lines:
            if on_line is None or self._stopped_by is not None:
                return
            fraction = on_line(line)
            if fraction is not None and fraction > self._fraction:
                self._fraction = fraction
                self._progressed_at = time.monotonic()

    def _judge(self, process: subprocess.Popen[bytes]) -> None:
        now = time.monotonic()
        if self._stopped_by is None:
            self._stopped_by = self._reason_to_stop(now)
        if self._stopped_by is not None and self._kill_at is None:
            kill_group(process.pid, signal.SIGTERM)
            self._kill_at = now + self._options.get("grace_seconds", _GRACE_SECONDS)
        elif self._kill_at is not None and now >= self._kill_at:
            kill_group(process.pid, signal.SIGKILL)
            self._kill_at = math.inf

    def _reason_to_stop(self, now: float) -> Exception | None:
        stall, timeout = self._options.get("stall_seconds"), self._options.get("timeout_seconds")
        cancelled = self._options.get("cancelled")
        if cancelled is not None and cancelled():
            return ProgramStopped(self._argv)
        if timeout is not None and now - self._began_at >= timeout:
            return ProgramTimedOut(self._argv, timeout)
        if stall is not None and now - self._progressed_at >= stall:
            return ProgramStalled(self._argv, stall)
        return None

    def _read_what_is_left(self) -> None:
        for descriptor in list(self._takers):
            reads = 0
            while descriptor in self._takers and reads < _LEFTOVER_READS_MAX and self._read(descriptor):
                reads += 1
        self._report(self._splitter.rest())

    def _bury(self, process: subprocess.Popen[bytes]) -> None:
        kill_group(process.pid)
        group_guard.forget(process.pid)
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
        self._announce(process.pid, alive=False)

    def _announce(self, pgid: int, *, alive: bool) -> None:
        if (on_group := self._options.get("on_group")) is not None:
            on_group(pgid, alive)


@contextlib.contextmanager
def _exit_watched(pid: int, selector: selectors.BaseSelector) -> Generator[None, None, None]:
    """Makes the selector wake up when the process ends, where the system can (Linux)."""
    if not hasattr(os, "pidfd_open"):
        yield
        return
    descriptor = os.pidfd_open(pid)
    selector.register(descriptor, selectors.EVENT_READ)
    try:
        yield
    finally:
        os.close(descriptor)


def _found(argv: list[str], cwd: str | os.PathLike[str] | None, env: Mapping[str, str] | None) -> str:
    """The path of the program, looked for as the system would, so that its absence gets an error of its own."""
    if not argv:
        raise ProgramNotStarted(argv, "the command is empty", "name a program")
    if cwd is not None and not os.path.isdir(cwd):
        raise ProgramNotStarted(argv, f"its working directory {shown(os.fspath(cwd))} does not exist", "create it first")
    if not os.path.dirname(argv[0]):
        path = shutil.which(argv[0], path=(os.environ if env is None else env).get("PATH", os.defpath))
        if path is None:
            raise ProgramNotStarted(argv, "it is not on PATH", "install it, or name it by its full path")
        return path
    path = os.path.join(cwd or ".", argv[0])
    if not os.path.exists(path):
        raise ProgramNotStarted(argv, "there is no such file", "correct the path")
    if not os.path.isfile(path) or not os.access(path, os.X_OK):
        raise ProgramNotStarted(argv, "it is not executable", "name an executable file, or `chmod +x` it")
    # Relative to our own directory, the path would be wrong in the program's.
    return os.path.abspath(path)
