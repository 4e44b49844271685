"""A TCP proxy before a real server that spoils replies: cuts them off, drops them, flips bytes.

The request is passed on as it is, so signatures stay valid.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

# Gets a request's first line (empty where HTTP is not spoken) and a piece of its reply; returns what the client gets, or None to
# break the connection.
Spoil = Callable[[bytes, bytes], bytes | None]

_METHODS = (b"GET ", b"PUT ", b"POST ", b"HEAD ", b"DELETE ")


class SpoilingProxy:
    """Attributes:
    url: where clients connect.
    spoil: what is done to replies; may be changed at any time.
    """

    def __init__(self, upstream_url: str) -> None:
        self._upstream = urlsplit(upstream_url)
        self._listener = socket.create_server(("127.0.0.1", 0))
        scheme = "redis" if self._upstream.scheme == "unix" else "http"
        self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self.spoil: Spoil = lambda request, reply: reply
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stops listening."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        request = [b""]
        with suppress(OSError), client, self._connected() as server:
            threading.Thread(target=self._pass_requests, args=(client, server, request), daemon=True).start()
            while reply := server.recv(65_536):
                passed = self.spoil(request[0], reply)
                if passed is None:
                    with suppress(OSError):
                        client.shutdown(socket.SHUT_RDWR)
                    return
                client.sendall(passed)

    def _connected(self) -> socket.socket:
        if self._upstream.scheme != "unix":
            return socket.create_connection((self._upstream.hostname or "", self._upstream.port or 0))
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._upstream.path)
        return server

    def _pass_requests(self, client: socket.socket, server: socket.socket, request: list[bytes]) -> None:
        with suppress(OSError):
            while sent := client.recv(65_536):
                if sent.startswith(_METHODS):
                    request[0] = sent.split(b"\r\n", 1)[0]
                server.sendall(sent)
            server.shutdown(socket.SHUT_WR)


@contextmanager
def spoiling_proxy(upstream_url: str) -> Iterator[SpoilingProxy]:
    """A proxy that lives as long as the block."""
    proxy = SpoilingProxy(upstream_url)
    try:
        yield proxy
    finally:
        proxy.close()
