"""Runs `flowq` as people do, as a process with pipes or in a terminal of a given size; or, faster, inside this process."""

from __future__ import annotations

import fcntl
import io
import logging
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from flowq.cli import main

ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 40.0


class Ran(NamedTuple):
    """What a command did. In a terminal everything is in `out`."""

    code: int
    out: str
    err: str = ""


def environment(more: Mapping[str, str] = {}) -> dict[str, str]:
    """The environment for a command: this one's without its settings, so that tests don't depend on who runs them."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("FLOWQ_", "NO_COLOR", "FORCE_COLOR", "COLUMNS"))
    }
    return {**kept, "PYTHONPATH": str(ROOT), "TERM": "xterm-256color", **more}


def flowq(*words: str, env: Mapping[str, str] = {}, cwd: Path | None = None, stdin: str = "") -> Ran:
    """Runs `flowq …` with pipes."""
    done = subprocess.run(
        [sys.executable, "-m", "flowq", *words],
        env=environment(env),
        cwd=cwd or ROOT,
        input=stdin.encode(),
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )
    return Ran(done.returncode, done.stdout.decode(), done.stderr.decode())


def flowq_here(*words: str, env: Mapping[str, str] = {}, cwd: Path | None = None, stdin: str = "") -> Ran:
    """Like `flowq`, but inside this process: without the half second that a new one takes to start."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True) for _ in range(2))
    before = sys.stdin, sys.stdout, sys.stderr, dict(os.environ), Path.cwd(), logging.getLogger("flowq").level
    try:
        os.environ.clear()
        os.environ.update(environment(env))
        os.chdir(cwd or ROOT)
        sys.stdin, sys.stdout, sys.stderr = io.TextIOWrapper(io.BytesIO(stdin.encode())), out, err
        code = main(words)
    finally:
        sys.stdin, sys.stdout, sys.stderr = before[:3]
        os.environ.clear()
        os.environ.update(before[3])
        os.chdir(before[4])
        logging.getLogger("flowq").setLevel(before[5])
    return Ran(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))  # type: ignore[attr-defined]


class Terminal:
    """A command in a pseudo-terminal: what it prints is collected, keys can be pressed. Use it with `with`."""

    def __init__(self, words: Sequence[str], *, width: int = 80, env: Mapping[str, str] = {}, cwd: Path | None = None) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "flowq", *words],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment(env),
            cwd=cwd or ROOT,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that Ctrl-C reaches it as a signal
        )
        os.close(theirs)
        self.out = ""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        os.close(self._ours)

    def press(self, keys: str) -> None:
        """Types keys."""
        os.write(self._ours, keys.encode())

    def until(self, text: str) -> str:
        """Reads until the text was printed; fails when it does not come."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while text not in self.out:
            assert time.monotonic() < give_up_at, f"{text!r} did not come: {self.out[-2000:]!r}"
            assert self._read() or text in self.out, f"it ended without {text!r}: {self.out[-2000:]!r}"
        return self.out

    def end(self) -> Ran:
        """Reads to the end."""
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while self._read():
            assert time.monotonic() < give_up_at, f"it does not end: {self.out[-2000:]!r}"
        return Ran(self.process.wait(PATIENCE_SECONDS), self.out.replace("\r\n", "\n"))

    def _read(self) -> bool:
        """Takes what there is; False at the end."""
        if not select.select([self._ours], [], [], 0.5)[0]:
            return True
        try:
            data = os.read(self._ours, 65_536)
        except OSError:  # Linux says so when the last writer has closed
            return False
        self.out += data.decode("utf-8", "replace")
        return bool(data)


def in_terminal(*words: str, width: int = 80, env: Mapping[str, str] = {}, cwd: Path | None = None) -> Ran:
    """Runs `flowq …` in a terminal to its end."""
    with Terminal(words, width=width, env=env, cwd=cwd) as terminal:
        return terminal.end()
