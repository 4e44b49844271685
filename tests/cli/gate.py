"""`Gate`: holds a running stage until the test lets it go on. Both wait for the other, nobody polls."""

from __future__ import annotations

import socket
from pathlib import Path

from tests.cli.terminal import PATIENCE_SECONDS


class Gate:
    """A unix socket that the stage `wait_at_gate` connects to."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "gate"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(PATIENCE_SECONDS)
        self._socket.bind(str(self.path))
        self._socket.listen()

    def arrival(self) -> socket.socket:
        """The next stage that has come here: it runs now, and waits."""
        return self._socket.accept()[0]

    def open(self, words: str) -> None:
        """Lets the next stage that comes go on; it returns these words."""
        with self.arrival() as stage:
            stage.sendall(words.encode())

    def close(self) -> None:
        """Nobody gets through any more."""
        self._socket.close()
