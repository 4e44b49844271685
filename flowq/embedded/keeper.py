"""The keeper: the process that owns a data directory's servers for as long as any client is connected to it.

Started by `attach` as `python -m flowq.embedded.keeper`, with its configuration on stdin. It leaves the terminal of the process
that started it (Ctrl-C there must not reach the database), and it has one thread (see `process._die_with`).
A client is an open connection to the control socket, so one that is killed is seen to leave like any other.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import msgspec

from flowq.embedded.control import ControlSocket
from flowq.embedded.directory import EPHEMERAL_PREFIX, DataDirectory, Endpoint
from flowq.embedded.kept_server import KeptServer, say
from flowq.embedded.messages import Hello, Ready, Refused, StartOrder, line
from flowq.embedded.process import open_log
from flowq.embedded.s3 import SeaweedServer
from flowq.embedded.valkey import ValkeyServer

_FIRST_CLIENT_SECONDS = 5.0
_STOP_SECONDS_MAX = 10.0
_LOOK_SECONDS = 0.25  # how often it looks whether its directory is still there
_LOOK_SECONDS_STARTING = 0.01


class Keeper:
    """Keeps the servers of one data directory; raises OSError when it can't listen for clients.

    Args:
        order: what to run, and where.
    """

    def __init__(self, order: StartOrder) -> None:
        self._order = order
        self._place = place = DataDirectory(Path(order.directory))
        runtime = place.make_runtime()
        self._data = Path(tempfile.mkdtemp(prefix=EPHEMERAL_PREFIX)) if order.is_ephemeral else place.path
        self._endpoint = Endpoint(str(runtime), os.getpid(), ephemeral_data=str(self._data) if order.is_ephemeral else "")
        self._control = ControlSocket(self._endpoint.control_socket)
        program, socket_path = Path(order.valkey_program), self._endpoint.valkey_socket
        self._valkey_kind = ValkeyServer(program, self._data / "valkey", socket_path, place.path / "valkey.log", order.lock_fd)
        self._valkey = KeptServer(self._valkey_kind)
        self._s3_kind: SeaweedServer | None = None
        self._s3: KeptServer | None = None
        self._quiet_until = time.monotonic() + max(order.linger_seconds, _FIRST_CLIENT_SECONDS)
        self._is_told_to_stop = False
        self._has_answered = False
        place.record(self._endpoint)

    def run(self) -> None:
        """Keeps the servers until the last client is gone, SIGTERM comes, or the directory is wiped; then ends them."""
        self._control.wake_on_signals(self._note_sigterm)
        say(f"keeper {os.getpid()} serves {self._place.path}, sockets in {self._endpoint.runtime}")
        while not (reason := self._reason_to_stop()):
            self._tend()
            for client, hello in self._control.waiting():
                answer = self._answer(hello)
                if answer is not None:
                    client.answer(answer)
                    self._has_answered = True
            self._control.wait(self._patience())
        say(f"stopping: {reason}")
        if self._place.is_locked_by(self._order.lock_fd):
            self._stop()
        else:
            self._stop_wiped()
        say("stopped")

    def _servers(self) -> Iterator[KeptServer]:
        yield self._valkey
        if self._s3 is not None:
            yield self._s3

    def _note_sigterm(self, _number: int, _frame: FrameType | None) -> None:
        self._is_told_to_stop = True

    def _reason_to_stop(self) -> str:
        """Why to stop now; empty: go on."""
        if self._is_told_to_stop:
            return "SIGTERM"
        if not self._owns_directory():
            return "the data directory was removed"
        if self._valkey.is_hopeless and self._has_answered:
            return "there is no server, and the client knows why"
        if self._control.clients:
            self._quiet_until = time.monotonic() + self._order.linger_seconds
            return ""
        return "no client is left" if time.monotonic() > self._quiet_until else ""

    def _owns_directory(self) -> bool:
        has_data = self._valkey_kind.has_data() or not self._valkey.is_ready
        return has_data and self._place.is_locked_by(self._order.lock_fd) and os.path.exists(self._control.path)

    def _tend(self) -> None:
        for _, hello in self._control.waiting():
            self._add_s3_if_wanted(hello)
        pid_before = self._valkey.pid
        for server in self._servers():
            # The first start does not wait for the client that is on its way.
            server.tend(may_start=bool(self._control.clients) or not server.has_been_ready)
        if self._valkey.pid != pid_before:
            self._endpoint = msgspec.structs.replace(self._endpoint, valkey_pid=self._valkey.pid)
            with contextlib.suppress(OSError):  # a full disk must not end the keeper; the record is a hint
                self._place.record(self._endpoint)

    def _add_s3_if_wanted(self, hello: Hello) -> None:
        if hello.wants_s3 and hello.s3_program and self._s3 is None:
            runtime, log = Path(self._endpoint.runtime), self._place.path / "s3.log"
            self._s3_kind = SeaweedServer(Path(hello.s3_program), self._data / "s3", runtime, log, self._order.lock_fd)
            self._s3 = KeptServer(self._s3_kind)

    def _answer(self, hello: Hello) -> Ready | Refused | None:
        """What to tell a client now; None: wait."""
        if not self._valkey.is_ready:
            return self._valkey.refusal
        ready = Ready(os.getpid(), str(self._endpoint.valkey_socket), str(self._data), self._order.is_ephemeral)
        if not hello.wants_s3 or self._s3 is None or self._s3_kind is None:
            return ready
        if not self._s3.is_ready:
            return self._s3.refusal
        return msgspec.structs.replace(ready, s3=self._s3_kind.access)

    def _patience(self) -> float:
        if any(not server.is_ready and server.refusal is None for server in self._servers()):
            return _LOOK_SECONDS_STARTING
        if self._control.clients:
            return _LOOK_SECONDS
        return min(_LOOK_SECONDS, max(self._quiet_until - time.monotonic(), _LOOK_SECONDS_STARTING))

    def _stop(self) -> None:
        # The control socket goes first: who wants to attach from now on sees no keeper and waits for the lock.
        for path in (self._place.endpoint_path, self._control.path):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        for server in self._servers():
            server.ask_to_end()
        deadline = time.monotonic() + _STOP_SECONDS_MAX
        for server in self._servers():
            server.end(max(deadline - time.monotonic(), 0))
            server.clean()
        self._control.close()
        if self._order.is_ephemeral:
            shutil.rmtree(self._data, ignore_errors=True)
        if self._order.is_ephemeral or Path(self._endpoint.runtime).parent != self._place.path:
            shutil.rmtree(self._endpoint.runtime, ignore_errors=True)
        if self._order.is_ephemeral and self._has_answered and not self._valkey.is_hopeless:  # else somebody may read why
            self._place.remove_without_data()

    def _stop_wiped(self) -> None:
        # At once: nothing more may be acknowledged into files that have no names. And nothing is tidied up: whatever has
        # our names by now belongs to the next keeper.
        for server in self._servers():
            server.end(0)
        self._control.close()
        if self._order.is_ephemeral:
            shutil.rmtree(self._data, ignore_errors=True)


def main() -> None:
    """Reads the order, leaves the starter, listens, and keeps. What it can't do it says on stdout before that closes."""
    os.umask(0o077)
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=StartOrder)
    if os.fork():  # the starter waits for this process, and must not be the parent of one that outlives its interest
        os._exit(0)
    try:
        with open_log(Path(order.directory, "keeper.log")) as log:
            os.dup2(log.fileno(), 2)
        keeper = Keeper(order)
    except OSError as error:
        os.write(
            1, line(Refused("unusable", order.directory, f"can't be used: {error}", "free space, or choose another directory"))
        )
        return
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.dup2(nothing, 1)  # the end of our stdout tells the starter that clients can connect
    keeper.run()


if __name__ == "__main__":
    main()
