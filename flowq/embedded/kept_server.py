"""Keeps one server running: starts it, waits until it answers, starts it again when it dies. Driven by the keeper's loop.

Nothing here waits: `tend` looks once and returns, so that one thread can keep two servers and talk to clients.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Protocol

from flowq.embedded.messages import Refused
from flowq.embedded.process import ServerProcess

_RESTART_SECONDS_MIN = 1.0  # a server that can't start must not eat a core, nor fill the disk with its log


class ServerKind(Protocol):
    """What is particular to one kind of server."""

    name: str
    start_seconds_max: float  # after this a server that does not answer is killed
    tries: int  # starts that may fail before clients are told

    def launch(self) -> ServerProcess:
        """Starts it; raises OSError."""
        ...

    def answers(self) -> bool:
        """Whether it serves requests now; returns quickly."""
        ...

    def diagnosis(self, log_tail: str) -> Refused:
        """What clients are told of a start that ended with these lines in the log."""
        ...

    def clean(self) -> None:
        """Removes what the server left outside its own directory."""
        ...


class KeptServer:
    """One server and the state of keeping it.

    Attributes:
        is_ready: it answered after its latest start and has not ended since.
        has_been_ready: it answered at least once.
        refusal: why it can't be used, as clients are told; None while there is hope.
    """

    def __init__(self, kind: ServerKind) -> None:
        self._kind = kind
        self._process: ServerProcess | None = None
        self._started_at = float("-inf")
        self._failures = 0
        self.is_ready = False
        self.has_been_ready = False
        self.refusal: Refused | None = None

    @property
    def pid(self) -> int:
        """Its process; 0 while it does not run."""
        return self._process.pid if self._process is not None and self._process.is_alive else 0

    @property
    def is_hopeless(self) -> bool:
        """It never served, and trying again won't help."""
        return self.refusal is not None and not self.has_been_ready

    def tend(self, may_start: bool) -> None:
        """Looks once at the server and does the next thing: notice its end, start it, notice that it answers."""
        if self._process is not None and not self._process.is_alive:
            self._note_end(self._process)
        now = time.monotonic()
        if self._process is None:
            if may_start and not self.is_hopeless and now >= self._started_at + _RESTART_SECONDS_MIN:
                self._start(now)
        elif self.is_ready:
            return
        elif self._kind.answers():
            self.is_ready = self.has_been_ready = True
            self.refusal, self._failures = None, 0
            say(f"{self._kind.name} answers, process {self._process.pid}, after {now - self._started_at:.2f} s")
        elif now > self._started_at + self._kind.start_seconds_max:
            say(f"{self._kind.name} does not answer after {self._kind.start_seconds_max:g} s: killed")
            self._process.wait_or_kill(0)

    def ask_to_end(self) -> None:
        """Sends SIGTERM."""
        if self._process is not None:
            self._process.ask_to_end()

    def end(self, grace_seconds: float) -> None:
        """Waits for its end and kills it after `grace_seconds`."""
        if self._process is not None:
            self._process.wait_or_kill(grace_seconds)

    def clean(self) -> None:
        """Removes what the server left outside its own directory."""
        self._kind.clean()

    def _start(self, now: float) -> None:
        self._started_at = now
        try:
            self._process = self._kind.launch()
        except OSError as error:
            self._note_failure(str(error))

    def _note_end(self, process: ServerProcess) -> None:
        self._process = None
        say(f"{self._kind.name} (process {process.pid}) ended: {process.ending}")
        if not self.is_ready:
            self._note_failure(process.log_tail() or process.ending)
        self.is_ready = False

    def _note_failure(self, log_tail: str) -> None:
        self._failures += 1
        if self._failures < self._kind.tries:
            return
        self.refusal = self._kind.diagnosis(log_tail)


def say(text: str) -> None:
    """Writes a line to the keeper's log; a full disk must not end the keeper."""
    with contextlib.suppress(OSError):
        os.write(sys.stderr.fileno(), f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n".encode())
