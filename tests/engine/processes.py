"""Real processes for the tests of the engine's process machinery: start, signal, wait; never a sleep."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 30.0

# Pieces of a child's module.
OPEN_LINK = "import asyncio, os, signal, sys, time\nfrom flowq.engine.process.parent_link import *\nlink = ParentLink.open()\n"
SLEEP_ON = "time.sleep(1000)\n"
# A stage's program with a child of its own, in one group; its pids are said as a note.
RUN_PROGRAM = (
    "from flowq.engine.process.program import run_program\n"
    "groups = []\n"
    "def on_group(pgid, alive):\n"
    "    groups.append(pgid); link.announce_group(pgid, alive)\n"
    "def on_line(line):\n"
    "    link.say(Note('pids', [os.getpid(), groups[0], int(line)]))\n"
    "run_program(['sh', '-c', 'sleep 1000 & echo $!; wait'], on_line=on_line, on_group=on_group)\n"
)


def wait_until_gone(pid: int, seconds: float = PATIENCE_SECONDS) -> None:
    """Returns when the process, which need not be a child of ours, has ended; fails the test after `seconds`."""
    if not hasattr(os, "pidfd_open"):
        deadline, pause = time.monotonic() + seconds, threading.Event()
        while is_running(pid):
            assert time.monotonic() < deadline, f"process {pid} still runs after {seconds} s"
            pause.wait(0.02)
        return
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], seconds)
    finally:
        os.close(descriptor)
    assert ready, f"process {pid} still runs after {seconds} s"


def is_running(pid: int) -> bool:
    """Whether the process lives; a zombie does not."""
    if not hasattr(os, "pidfd_open"):
        listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return bool(listed.stdout.strip()) and "Z" not in listed.stdout
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return False
    try:
        return not select.select([descriptor], [], [], 0)[0]
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def running_python(source: str, *words: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs `source` with flowq importable; killed and reaped at the end, by its own pid."""
    process = subprocess.Popen(
        [sys.executable, "-c", source, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        process.stdout.close()


def said(process: subprocess.Popen[str]) -> str:
    """The next line that the process writes."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
