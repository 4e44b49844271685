"""The child's side of `child_process`: its configuration, the supervisor's commands, and dying with the supervisor.

stdin is the lifeline: its end means that the supervisor is gone, even by SIGKILL. A thread waits for that, so that a
blocked event loop dies too; and because a stage may hold the interpreter lock, Linux is asked to kill us as well, and
the guard (`process_groups`) then kills the programs of our stages, on every system.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import os
import select
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any, NoReturn, TypeVar

import msgspec

from flowq.engine.process.process_groups import group_guard, kill_group
from flowq.errors import InvalidValue

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_READ_BYTES = 65_536
_OPENING_BYTES_MAX = 64 * 1024 * 1024
# A supervisor that is stopped must not stop its children: what it does not read is kept, up to this.
_UNSENT_BYTES_MAX = 1024 * 1024
_LAST_WORDS_SECONDS = 5.0


class Ready(msgspec.Struct, frozen=True, tag_field="kind", tag="ready"):
    """The child has loaded its stages and begins to claim."""


class Group(msgspec.Struct, frozen=True, tag_field="kind", tag="group"):
    """A stage's program runs in this process group, or no longer does."""

    pgid: int
    alive: bool


class Retire(msgspec.Struct, frozen=True, tag_field="kind", tag="retire"):
    """The child wants to be replaced, and says why: it has run enough stages, or grown too large."""

    reason: str


class Note(msgspec.Struct, frozen=True, tag_field="kind", tag="note"):
    """Anything else that one side of the engine tells the other."""

    topic: str
    body: Any = None


ChildMessage = Ready | Group | Retire | Note


class Opening(msgspec.Struct, frozen=True):
    """The first line of stdin.

    Attributes:
        parent_pid: the supervisor, which may be gone by now.
        control_fd: where the child writes its messages.
        configuration: the caller's own, as JSON.
    """

    parent_pid: int
    control_fd: int
    configuration: msgspec.Raw


class ParentLink:
    """What a child process has of its supervisor. Make it first thing, with `open`, before any stage's module is loaded."""

    def __init__(self, opening: Opening, lifeline_fd: int, begun: bytes) -> None:
        self._opening = opening
        self._lifeline_fd = lifeline_fd
        self._begun = begun
        self._lock = threading.Lock()
        self._unsent = bytearray()
        self._woken_fd, self._wake_fd = os.pipe()
        self._groups: set[int] = set()
        self._commands: deque[str] = deque()
        self._on_command: Callable[[], None] | None = None

    @classmethod
    def open(cls) -> ParentLink:
        """Reads the first line of stdin, puts /dev/null in its place, and dies with the supervisor from here on.

        Raises:
            InvalidValue: this process was not started by `ChildProcess`.
        """
        # Stages and their programs must not read our commands, nor keep the pipes open.
        lifeline_fd = os.dup(0)
        nothing = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nothing, 0)
        os.close(nothing)
        line, begun = _first_line(lifeline_fd)
        try:
            opening = msgspec.json.decode(line, type=Opening)
            os.set_inheritable(opening.control_fd, False)
            os.set_blocking(opening.control_fd, False)
        except (msgspec.DecodeError, OSError) as error:
            raise InvalidValue(
                "standard input", "what it holds", f"a first line written by flowq's supervisor ({error})"
            ) from None
        link = cls(opening, lifeline_fd, begun)
        if _leads_its_group():
            group_guard.watch(os.getpid())
        _die_with(opening.parent_pid)
        threading.Thread(target=link._follow, name="flowq-lifeline", daemon=True).start()
        atexit.register(link._say_last_words)
        return link

    def configuration(self, kind: type[T]) -> T:
        """What the supervisor passed to `ChildProcess.start`, as a `kind`."""
        return msgspec.json.decode(self._opening.configuration, type=kind)

    async def commands(self) -> AsyncIterator[str]:
        """The supervisor's commands, also those that came before; never ends. For one reader."""
        loop, arrived = asyncio.get_running_loop(), asyncio.Event()

        def wake() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: we are on our way out
                loop.call_soon_threadsafe(arrived.set)

        self._on_command = wake
        while True:
            while self._commands:
                yield self._commands.popleft()
            await arrived.wait()
            arrived.clear()

    def say(self, message: ChildMessage) -> None:
        """Sends a message, from any thread; never blocks and never raises."""
        with self._lock:
            if len(self._unsent) < _UNSENT_BYTES_MAX:
                self._unsent += msgspec.json.encode(message) + b"\n"
            self._send()
            if self._unsent:
                os.write(self._wake_fd, b"!")  # the lifeline's thread sends the rest

    def leave(self, exit_code: int) -> NoReturn:
        """Ends the process at once, whatever threads still run, after what was said has been sent."""
        self._say_last_words()
        os._exit(exit_code)

    def announce_group(self, pgid: int, alive: bool) -> None:
        """Tells of a program's process group, so that it is killed with this process. Fits `run_program`'s `on_group`."""
        with self._lock:
            (self._groups.add if alive else self._groups.discard)(pgid)
        self.say(Group(pgid, alive))

    def _send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._unsent:
                try:
                    sent = os.write(self._opening.control_fd, self._unsent)
                except BrokenPipeError:  # the lifeline will tell in a moment
                    self._unsent.clear()
                    return
                del self._unsent[:sent]

    def _say_last_words(self) -> None:
        deadline = time.monotonic() + _LAST_WORDS_SECONDS
        with self._lock:
            while self._unsent and (left := deadline - time.monotonic()) > 0:
                select.select([], [self._opening.control_fd], [], left)
                self._send()

    def _follow(self) -> None:
        """Takes in commands until the lifeline ends, then ends everything."""
        received = self._begun
        while True:
            *complete, received = received.split(b"\n")
            self._commands.extend(line.decode("utf-8", "replace") for line in complete)
            if complete and self._on_command is not None:
                self._on_command()
            waits_to_send = [self._opening.control_fd] if self._unsent else []
            readable, _, _ = select.select([self._lifeline_fd, self._woken_fd], waits_to_send, [])
            if self._woken_fd in readable:
                os.read(self._woken_fd, _READ_BYTES)
            with self._lock:
                self._send()
            if self._lifeline_fd in readable:
                chunk = os.read(self._lifeline_fd, _READ_BYTES)
                if not chunk:
                    self._end()
                received += chunk

    def _end(self) -> None:
        for pgid in list(self._groups):
            kill_group(pgid)
        if _leads_its_group():
            os.killpg(os.getpid(), signal.SIGKILL)
        os._exit(1)


def _first_line(fd: int) -> tuple[bytes, bytes]:
    received = bytearray()
    while b"\n" not in received[-_READ_BYTES:]:
        chunk = os.read(fd, _READ_BYTES)
        if not chunk or len(received) > _OPENING_BYTES_MAX:
            break
        received += chunk
    line, _, rest = bytes(received).partition(b"\n")
    return line, rest


def _leads_its_group() -> bool:
    return os.getpgrp() == os.getpid()


def _die_with(parent_pid: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before we asked; its lifeline ends too, but we need not wait for that
        os._exit(1)
