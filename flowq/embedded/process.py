"""A server program as a child of the keeper: own session, own log, and it never outlives the keeper on Linux.

Every server inherits the lock of the data directory, so that the kernel holds the lock until the last of them is gone:
whatever dies in whatever order, a second server can't be started on data that a first one still writes.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

_PR_SET_PDEATHSIG = 1
_LOG_BYTES_MAX = 1_000_000
_TAIL_BYTES = 4_000
_HAS_PDEATHSIG = sys.platform == "linux"


class ServerProcess:
    """A running server.

    Args:
        argv: the program and its arguments.
        directory: where it runs.
        log: the file that takes its output; at 1 MB it is set aside as `<log>.old`.
        environment: its whole environment besides PATH and LANG.
        lock_fd: the descriptor of the data directory's lock, which it inherits.

    Raises:
        OSError: the program can't be run.
    """

    def __init__(self, argv: Sequence[str], directory: Path, log: Path, environment: Mapping[str, str], lock_fd: int) -> None:
        self._log = log
        with open_log(log) as output:
            self._began_at = output.tell()
            self._process = subprocess.Popen(
                argv,
                cwd=directory,
                env={"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=(lock_fd,),
                # Without a session of its own, Ctrl-C in the terminal kills the database before the workers have drained.
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    @property
    def ending(self) -> str:
        """How it ended, such as `exit code 1` or `SIGKILL`; `running` when it did not."""
        code = self._process.poll()
        if code is None:
            return "running"
        return f"exit code {code}" if code >= 0 else signal.Signals(-code).name

    def log_tail(self) -> str:
        """The last lines it wrote in this run, at most 4,000 bytes."""
        with self._log.open("rb") as log:
            end = log.seek(0, os.SEEK_END)
            log.seek(max(self._began_at, end - _TAIL_BYTES))
            return log.read().decode("utf-8", "replace").strip()

    def ask_to_end(self) -> None:
        """Sends SIGTERM; a server that has ended already is left alone."""
        if self.is_alive:
            self._process.terminate()

    def wait_or_kill(self, seconds: float) -> None:
        """Waits for its end and kills it after `seconds`."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def open_log(path: Path) -> BinaryIO:
    """Opens a log to append to, private to its owner; one that has grown beyond 1 MB is set aside first."""
    if path.exists() and path.stat().st_size > _LOG_BYTES_MAX:
        path.replace(path.with_name(path.name + ".old"))
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    os.lseek(descriptor, 0, os.SEEK_END)
    return os.fdopen(descriptor, "ab")


def _die_with(parent: int) -> Callable[[], None] | None:
    """What the child does before it becomes the server: ask the kernel for SIGKILL when the keeper dies, even by SIGKILL.

    The request follows the *thread* that forked, which is why the keeper has only one. SIGKILL and not SIGTERM: every
    acknowledged write is on disk already, and a server that ignores SIGTERM would hold the directory's lock for ever.
    """
    if not _HAS_PDEATHSIG:
        return None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # the keeper died between the fork and the request
            os._exit(1)

    return ask
