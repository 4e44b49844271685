"""Process groups: kill one safely, learn of an exit without giving the pid away, and leave no orphan behind.

A killed process can't kill its programs, the kernel's parent-death signal does not reach their children, and it needs
Python code between fork and exec. So one tiny shell, the guard, waits on a pipe that closes when this process ends,
however it ends, and then kills the groups that were announced to it.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import threading

# The announcements are read from stdin: "+ 123" and "- 123". End of file: the watched process is gone.
_POLITE_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM}
_GUARD_SCRIPT = """
trap '' HUP INT TERM QUIT
groups=
while read -r verb group; do
    kept=
    for known in $groups; do [ "$known" = "$group" ] || kept="$kept $known"; done
    groups=$kept
    [ "$verb" = - ] || groups="$groups $group"
done
for group in $groups; do kill -s KILL -- "-$group"; done
"""


def kill_group(pgid: int, signal_number: int = signal.SIGKILL) -> None:
    """Sends a signal to a whole process group; a group that is gone is no error.

    Groups 0 and 1 are refused silently, and so is the caller's own: `kill(0)` would hit the caller, and `kill(-1)`
    every process of the user. Numbers come from a child process, whose memory a stage may have damaged.
    """
    if pgid <= 1 or pgid == os.getpgrp():
        return
    # PermissionError: macOS says so for a group of which only a zombie is left.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, signal_number)


def has_exited(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended. It stays a zombie where the system allows, so that its pid, which is its group's
    number too, can't be given to another process before the group was killed."""
    return _exit_is_known(process, os.WNOHANG)


def wait_for_exit(process: subprocess.Popen[bytes]) -> None:
    """Blocks until the process has ended, like `has_exited`."""
    _exit_is_known(process, 0)


class GroupGuard:
    """Kills the announced groups when this process ends without having done so itself, even by SIGKILL.

    Thread-safe. A forked copy of the process starts anew: it drops its end of the pipe, so that a fork that outlives
    its parent doesn't keep the guard waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._groups: set[int] = set()
        self._shell: subprocess.Popen[bytes] | None = None
        self._pipe = -1
        os.register_at_fork(after_in_child=self._start_anew)
        atexit.register(self.dismiss)

    def watch(self, pgid: int) -> None:
        """From now on the group must not outlive this process."""
        with self._lock:
            self._groups.add(pgid)
            self._tell(f"+ {pgid}\n")

    def forget(self, pgid: int) -> None:
        """The group is gone, its number may come to mean somebody else's."""
        with self._lock:
            self._groups.discard(pgid)
            if self._shell is not None:
                self._tell(f"- {pgid}\n")

    @property
    def pid(self) -> int | None:
        """The guard's process; None while nothing was announced yet."""
        return self._shell.pid if self._shell is not None else None

    def dismiss(self) -> None:
        """Ends the guard, which kills every group it still watches but our own. Called when the interpreter exits."""
        if self._shell is None:
            return
        if os.getpgrp() in self._groups:  # we are to end with our own exit code
            with contextlib.suppress(BrokenPipeError):
                os.write(self._pipe, f"- {os.getpgrp()}\n".encode())
        os.close(self._pipe)
        with contextlib.suppress(subprocess.TimeoutExpired):  # stopped by a signal: not worth hanging for
            self._shell.wait(5)
        self._shell = None

    def _tell(self, line: str) -> None:
        if self._shell is None:
            self._start()
        try:
            os.write(self._pipe, line.encode())
        except BrokenPipeError:  # somebody killed the guard: a new one learns of all groups
            self.dismiss()
            self._start()

    def _start(self) -> None:
        read_end, self._pipe = os.pipe()
        # Blocked here, the signals are blocked in the shell from its first instant, before its `trap` has run.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, _POLITE_SIGNALS)
        try:
            # A session of its own, or Ctrl-C and the kill of our own group would take the guard along.
            self._shell = subprocess.Popen(
                ["/bin/sh", "-c", _GUARD_SCRIPT, "flowq-guard"], stdin=read_end, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL, start_new_session=True, cwd="/", env={},
            )  # fmt: skip
        except BaseException:
            os.close(self._pipe)
            raise
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.close(read_end)
        for pgid in self._groups:
            os.write(self._pipe, f"+ {pgid}\n".encode())

    def _start_anew(self) -> None:
        self._lock = threading.Lock()
        self._groups = set()
        if self._shell is not None:
            os.close(self._pipe)
            self._shell.returncode = 0  # it is no child of the fork, so there is nothing to wait for
            self._shell = None


group_guard = GroupGuard()


def _exit_is_known(process: subprocess.Popen[bytes], options: int) -> bool:
    if not hasattr(os, "waitid"):  # macOS before Python 3.13: reap at once, and accept the tiny race
        return (process.poll() if options else process.wait()) is not None
    if process.returncode is not None:
        return True
    try:
        return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT | options) is not None
    except ChildProcessError:  # somebody else reaped it
        return True
