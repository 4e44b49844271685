"""An HTTP server on 127.0.0.1 that hands out one file: what the demo and the stories download from.

It can be slow on purpose, so that there is something to watch.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

_CHUNK_BYTES = 32 * 1024


class ClipServer(ThreadingHTTPServer):
    """Serves `file`, whatever path is asked for.

    Attributes:
        file: the file.
        pause_seconds: how long to wait after every 32 kB.
    """

    daemon_threads = True

    def __init__(self, file: Path, pause_seconds: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)  # port 0: the system picks a free one
        self.file = file
        self.pause_seconds = pause_seconds

    @property
    def url(self) -> str:
        """Where the file is."""
        return f"http://127.0.0.1:{self.server_address[1]}/{self.file.name}"


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, ClipServer)
        content = self.server.file.read_bytes()
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        for start in range(0, len(content), _CHUNK_BYTES):
            self.wfile.write(content[start : start + _CHUNK_BYTES])
            time.sleep(self.server.pause_seconds)

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing: the demo shows the progress of the download."""


@contextlib.contextmanager
def serving(file: Path, pause_seconds: float = 0.0) -> Iterator[str]:
    """The URL of the file, served for as long as the block runs."""
    with ClipServer(file, pause_seconds) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield server.url
        finally:
            server.shutdown()
