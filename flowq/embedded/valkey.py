"""The embedded Valkey: every acknowledged write is on disk, no TCP port, no dangerous command.

Ready in about 50 ms with an empty directory. Its own defaults would keep nothing (`save ""`, no append-only file).
"""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
from pathlib import Path

from flowq.embedded.directory import write_private
from flowq.embedded.messages import Refused
from flowq.embedded.process import ServerProcess

_CONFIG = """\
# Written by flowq at every start; changes here are lost.
port 0
unixsocket {socket}
unixsocketperm 600
appendonly yes
appendfsync always
save ""
maxmemory-policy noeviction
enable-debug-command no
enable-module-command no
daemonize no
"""
_PING_SECONDS_MAX = 0.5
_MANIFEST = Path("appendonlydir", "appendonly.aof.manifest")


class ValkeyServer:
    """What the keeper has to know of Valkey.

    Args:
        program: the server program.
        home: the directory of its data; made here.
        socket_path: where it listens.
        log: where its output goes.
        lock_fd: the data directory's lock.
    """

    name = "Valkey server"
    start_seconds_max = float("inf")  # loading a large append-only file takes as long as it takes
    tries = 1

    def __init__(self, program: Path, home: Path, socket_path: Path, log: Path, lock_fd: int) -> None:
        self._program = program
        self._home = home
        self._socket_path = socket_path
        self._log = log
        self._lock_fd = lock_fd

    def launch(self) -> ServerProcess:
        """Writes the configuration and starts the server; raises OSError."""
        self._home.mkdir(mode=0o700, exist_ok=True)
        self._socket_path.unlink(missing_ok=True)
        config = _CONFIG.format(socket=quoted(os.fsencode(self._socket_path)))
        write_private(self._home / "valkey.conf", config.encode())
        # It runs in its own directory, so no path but the socket's has to survive the quoting rules of the configuration.
        return ServerProcess([str(self._program), "valkey.conf"], self._home, self._log, {}, self._lock_fd)

    def answers(self) -> bool:
        """Whether it serves: it says LOADING while it reads its append-only file."""
        return ask(self._socket_path, "PING").startswith("+PONG")

    def has_data(self) -> bool:
        """Whether its append-only files are still where it writes them, or someone removed them under it."""
        return os.path.exists(self._home / _MANIFEST)

    def diagnosis(self, log_tail: str) -> Refused:
        """What clients are told of a failed start."""
        # The server marks warnings and errors with `#`; its advice on the kernel's settings is none of the reasons.
        warnings = [text for text in re.findall(r"^\S+ .{24} # (.*)$", log_tail, re.M) if "overcommit" not in text]
        remedy = f"see {self._log}; or use a server that runs elsewhere: FLOWQ_URL=redis://host:6379"
        damaged = re.search(r"append only file (\S+\.aof): make a backup", log_tail)
        if damaged:
            remedy = self._repair_remedy(damaged[1])
        elif re.search(r"(?i)no space left", log_tail):
            remedy = f"free space on the file system of {self._home}"
        return Refused("failed", self.name, "\n".join(warnings or log_tail.splitlines()[-5:]), remedy)

    def clean(self) -> None:
        """Removes the socket."""
        with contextlib.suppress(OSError):
            self._socket_path.unlink(missing_ok=True)

    def _repair_remedy(self, damaged: str) -> str:
        # Server and checker are one program that looks at the name it is called by; wheels have it under one only.
        tool = self._home / "valkey-check-aof"
        with contextlib.suppress(FileExistsError):
            tool.symlink_to(self._program)
        # The file and not the manifest: the checker (Valkey 9.1) takes the base file, which is no command log, for a damaged one.
        file = shlex.quote(str(self._home / "appendonlydir" / damaged))
        return (
            f"make a copy of {self._home}, then cut the damaged file back to its last whole command: "
            f"{shlex.quote(str(tool))} --fix {file}; or remove {self._home} to start empty"
        )


def ask(socket_path: Path, command: str) -> str:
    """The first bytes of the server's reply to one inline command; empty when nothing answers."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(_PING_SECONDS_MAX)
        try:
            client.connect(str(socket_path))
            client.sendall(command.encode() + b"\r\n")
            return client.recv(4096).decode("utf-8", "replace")
        except OSError:
            return ""


def process_of(socket_path: Path) -> int:
    """The process that serves this socket, as it says itself; 0 when nothing answers."""
    found = re.search(r"process_id:(\d+)", ask(socket_path, "INFO server"))
    return int(found[1]) if found else 0


def quoted(text: bytes) -> str:
    """A value as the configuration file takes it: in double quotes, all but plain ASCII escaped."""
    return '"' + "".join(chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\x{byte:02x}" for byte in text) + '"'
