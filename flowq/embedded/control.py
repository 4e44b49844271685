"""The keeper's end of the control socket: who is connected, what they said, and a wait that signals end early."""

from __future__ import annotations

import contextlib
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec

from flowq.embedded.kept_server import say
from flowq.embedded.messages import Hello, Ready, Refused, line

_HELLO_BYTES_MAX = 65_536


class Client:
    """One connection to the control socket.

    Attributes:
        hello: its first words; None until they have come.
        is_answered: whether it was told how its wish ended.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.received = b""
        self.hello: Hello | None = None
        self.is_answered = False

    def answer(self, message: Ready | Refused) -> None:
        """Sends the answer; a client that has gone is noticed when it is read from."""
        self.is_answered = True
        with contextlib.suppress(OSError):
            self._connection.sendall(line(message))


class ControlSocket:
    """Listens at a path; raises OSError when it can't.

    Attributes:
        clients: the open connections.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.clients: list[Client] = []
        self._selector = selectors.DefaultSelector()
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)  # what a killed keeper left: the lock is ours
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)

    def wake_on_signals(self, on_sigterm: Callable[[int, FrameType | None], None]) -> None:
        """Lets SIGTERM and the end of a server end a wait at once, and Ctrl-C and a closed terminal do nothing."""
        woken, wake = socket.socketpair()
        woken.setblocking(False)
        wake.setblocking(False)
        signal.set_wakeup_fd(wake.fileno())
        # Handlers that do nothing and not SIG_IGN: what is ignored here would stay ignored in the servers.
        for number in (signal.SIGINT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(number, _do_nothing)
        signal.signal(signal.SIGTERM, on_sigterm)
        self._selector.register(woken, selectors.EVENT_READ, partial(_drain, woken, wake))

    def wait(self, seconds: float) -> None:
        """Waits until a client comes, says something or leaves, or a signal arrives, and takes note of it."""
        for key, _ in self._selector.select(seconds):
            key.data()

    def waiting(self) -> Iterator[tuple[Client, Hello]]:
        """The clients that have said what they want and were not answered yet."""
        return ((client, client.hello) for client in self.clients if client.hello is not None and not client.is_answered)

    def close(self) -> None:
        """Refuses new clients and lets those go that are there."""
        self._selector.close()
        self._listener.close()
        self.clients.clear()  # the last reference closes a connection

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.accept()
        except OSError:  # it left before it was let in
            return
        connection.setblocking(False)
        client = Client(connection)
        self.clients.append(client)
        self._selector.register(connection, selectors.EVENT_READ, partial(self._read, client, connection))

    def _read(self, client: Client, connection: socket.socket) -> None:
        try:
            received = connection.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            received = b""
        client.received += received
        is_polite = bool(received) and len(client.received) <= _HELLO_BYTES_MAX
        if is_polite and client.hello is None and client.received.endswith(b"\n"):
            is_polite = self._greet(client)
        if not is_polite:
            self._part(client, connection)

    def _greet(self, client: Client) -> bool:
        try:
            client.hello = msgspec.json.decode(client.received, type=Hello)
        except msgspec.DecodeError:
            return False
        say(f"client {client.hello.pid} came, {len(self.clients)} now")
        return True

    def _part(self, client: Client, connection: socket.socket) -> None:
        self._selector.unregister(connection)
        connection.close()
        self.clients.remove(client)
        if client.hello is not None:
            say(f"client {client.hello.pid} left, {len(self.clients)} now")


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _drain(woken: socket.socket, _wake: socket.socket) -> None:
    # `_wake` is only held: the signal module keeps its number, not the socket.
    with contextlib.suppress(BlockingIOError):
        woken.recv(4096)
