"""The supervisor's side of a child process: starts it, commands it, hears it, and notices its death at once.

The child runs a module (`python -m`) that begins with `ParentLink.open()`. Its whole configuration is the first line
of its stdin, because arguments and environment can be read by others; stdin then stays open as its lifeline.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import msgspec

from flowq.engine.process.parent_link import ChildMessage, Group, Note, Opening, Ready, Retire
from flowq.engine.process.process_groups import kill_group, wait_for_exit

STOP = "stop"
DRAIN = "drain"

_READ_BYTES = 65_536
_LINE_BYTES_MAX = 1024 * 1024

_decoder: msgspec.json.Decoder[ChildMessage] = msgspec.json.Decoder(ChildMessage)
_log = logging.getLogger(__name__)


class ChildExit(msgspec.Struct, frozen=True):
    """How a child process ended.

    Attributes:
        pid: the process.
        exit_code: its exit code; negative: the signal that killed it.
        signal_name: that signal's name, such as `SIGKILL`; None: it ended by itself.
    """

    pid: int
    exit_code: int
    signal_name: str | None

    @property
    def reason(self) -> str:
        """`killed by SIGKILL`, or `ended with exit code 3`."""
        return f"killed by {self.signal_name}" if self.signal_name else f"ended with exit code {self.exit_code}"


class ChildProcess:
    """A running child; made by `start`. For one event loop; start it from a thread that stays.

    (Linux kills a child when the *thread* that started it ends.)
    """

    def __init__(
        self, process: subprocess.Popen[bytes], control_fd: int, on_message: Callable[[Ready | Retire | Note], None]
    ) -> None:
        self._process = process
        self._control_fd = control_fd
        self._on_message = on_message
        self._loop = asyncio.get_running_loop()
        self._exit: asyncio.Future[ChildExit] = self._loop.create_future()
        self._lifeline: asyncio.WriteTransport | None = None
        self._received = b""
        self._groups: set[int] = set()

    @classmethod
    async def start(
        cls, module: str, configuration: object, *, on_message: Callable[[Ready | Retire | Note], None],
        pass_fds: Sequence[int] = (), env: Mapping[str, str] | None = None,
    ) -> ChildProcess:  # fmt: skip
        """Starts `python -m module` in a session of its own, so that Ctrl-C reaches the supervisor alone.

        Args:
            module: begins with `ParentLink.open()`.
            configuration: anything msgspec can write as JSON; secrets are safe here.
            on_message: called in the loop with each message of the child.
            pass_fds: descriptors that the child gets under the same numbers, such as a `Pulse`'s.
            env: its whole environment; None: that of this process.

        Raises:
            OSError: the system refused: too many processes, threads or descriptors. Nothing is left of the attempt.
        """
        configured = msgspec.Raw(msgspec.json.encode(configuration))
        process, ends = _spawned(module, pass_fds, env)
        child = cls(process, ends.control_fd, on_message)
        await child._attach(ends.lifeline_fd, Opening(os.getpid(), ends.control_fd_of_child, configured))
        return child

    @property
    def pid(self) -> int:
        """The child's process, which leads a group of the same number."""
        return self._process.pid

    @property
    def groups(self) -> frozenset[int]:
        """The groups of its stages' programs that are alive."""
        return frozenset(self._groups)

    async def exited(self) -> ChildExit:
        """Waits for the child's end. By then its group and its programs were sent SIGKILL, and its messages delivered."""
        return await asyncio.shield(self._exit)

    def command(self, word: str) -> None:
        """Sends one line, such as `DRAIN` or `STOP`; does nothing once the child is gone."""
        if self._lifeline is not None and not self._lifeline.is_closing():
            self._lifeline.write(f"{word}\n".encode())

    def kill(self) -> None:
        """Kills the child and its group now; its programs follow as soon as it is dead."""
        if not self._exit.done():
            kill_group(self.pid)

    async def terminate(self, grace_seconds: float) -> ChildExit:
        """Commands it to stop, and kills it when it has not ended within the grace."""
        self.command(STOP)
        try:
            async with asyncio.timeout(grace_seconds):
                return await self.exited()
        except TimeoutError:
            self.kill()
            return await self.exited()

    async def _attach(self, lifeline_fd: int, opening: Opening) -> None:
        os.set_blocking(self._control_fd, False)
        try:
            threading.Thread(target=self._wait, name=f"flowq-child-{self.pid}", daemon=True).start()
        except RuntimeError as error:  # threads count as processes; without this one nobody would notice the child's end
            self._lay_to_rest()
            os.close(lifeline_fd)
            raise BlockingIOError(errno.EAGAIN, str(error)) from error
        self._loop.add_reader(self._control_fd, self._hear)
        # A transport, because the child may be slow to read, or dead, and the supervisor must not wait for it.
        transport, _ = await self._loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(lifeline_fd, "wb", 0))
        self._lifeline = transport
        self._lifeline.write(msgspec.json.encode(opening) + b"\n")

    def _wait(self) -> None:
        wait_for_exit(self._process)
        try:
            self._loop.call_soon_threadsafe(self._finish)
        except RuntimeError:
            # The loop was closed without waiting for the child. Its last words are left unread: the interpreter may be ending,
            # which a thread that decodes does not survive; the child's own guard kills the groups that they name.
            self._lay_to_rest()

    def _hear(self) -> None:
        if self._receive() == b"":
            self._loop.remove_reader(self._control_fd)
        self._deliver(self._messages())

    def _finish(self) -> None:
        self._loop.remove_reader(self._control_fd)
        messages = self._bury()
        # asyncio closes it by itself when the child's end closes, and stumbles over being told twice.
        if self._lifeline is not None and not self._lifeline.is_closing():
            self._lifeline.abort()
        try:
            self._deliver(messages)
        finally:
            self._exit.set_result(_exit_of(self._process))

    def _bury(self) -> list[Ready | Retire | Note]:
        """Kills what the dead child leaves behind. What it said last is read first: it may name a group."""
        while self._receive():
            pass
        messages = self._messages()
        self._lay_to_rest()
        return messages

    def _lay_to_rest(self) -> None:
        # Before the child is reaped: until then its number can't be anybody else's.
        for pgid in (self.pid, *self._groups):
            kill_group(pgid)
        self._groups.clear()
        self._process.wait()
        os.close(self._control_fd)

    def _receive(self) -> bytes | None:
        """Reads once: None when there is nothing now, empty at the end."""
        try:
            chunk = os.read(self._control_fd, _READ_BYTES)
        except BlockingIOError:
            return None
        self._received += chunk
        return chunk

    def _messages(self) -> list[Ready | Retire | Note]:
        """Takes the complete messages out of what was received; those about groups are dealt with here."""
        messages: list[Ready | Retire | Note] = []
        *lines, self._received = self._received.split(b"\n")
        self._received = self._received[:_LINE_BYTES_MAX]
        for line in lines:
            try:
                message = _decoder.decode(line)
            except msgspec.DecodeError as error:
                _log.warning("child %d sent something that is no message: %s", self.pid, error)
                continue
            if isinstance(message, Group):
                (self._groups.add if message.alive else self._groups.discard)(message.pgid)
            else:
                messages.append(message)
        return messages

    def _deliver(self, messages: list[Ready | Retire | Note]) -> None:
        for message in messages:
            self._on_message(message)


class _Ends(msgspec.Struct):
    lifeline_fd: int
    control_fd: int
    control_fd_of_child: int


def _spawned(module: str, pass_fds: Sequence[int], env: Mapping[str, str] | None) -> tuple[subprocess.Popen[bytes], _Ends]:
    # Any of these calls may be refused; what was opened until then is closed.
    with contextlib.ExitStack() as theirs, contextlib.ExitStack() as ours:
        child_stdin, lifeline_fd = os.pipe()
        theirs.callback(os.close, child_stdin)
        ours.callback(os.close, lifeline_fd)
        control_fd, child_control = os.pipe()
        theirs.callback(os.close, child_control)
        ours.callback(os.close, control_fd)
        process = subprocess.Popen(
            [sys.executable, "-m", module], stdin=child_stdin, start_new_session=True,
            pass_fds=(child_control, *pass_fds), env=env,
        )  # fmt: skip
        ours.pop_all()
    return process, _Ends(lifeline_fd, control_fd, child_control)


def _exit_of(process: subprocess.Popen[bytes]) -> ChildExit:
    code = cast(int, process.returncode)
    if code >= 0:
        return ChildExit(process.pid, code, None)
    try:
        name = signal.Signals(-code).name
    except ValueError:  # a real-time signal
        name = f"signal {-code}"
    return ChildExit(process.pid, code, name)
