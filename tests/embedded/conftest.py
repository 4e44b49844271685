"""Data directories for the tests of the embedded servers, and clients that can be killed.

Every keeper that a test leaves behind is told to stop by its own process id before its directory is removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from flowq.embedded.directory import DataDirectory, Endpoint
from flowq.errors import DataDirectoryUnusable
from tests.engine.waiting import PATIENCE_SECONDS, eventually

LINGER_SECONDS = 0.5
PROJECT = Path(__file__).parents[2]

_CLIENT = """
import sys, pathlib
from flowq.embedded import attach
attachment = attach(pathlib.Path(sys.argv[1]), s3=False, linger_seconds=float(sys.argv[2]))
print(attachment.url, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def home() -> Iterator[Path]:
    """A short private folder: unix sockets have to fit below it. Keepers of directories right below it are stopped at the end."""
    folder = Path(tempfile.mkdtemp(prefix="fqe-", dir="/tmp"))
    yield folder
    for directory in folder.iterdir():
        stop_keeper(directory)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def directory(home: Path) -> Path:
    """The path of a data directory that does not exist yet."""
    return home / ".flowq"


@pytest.fixture
def silent_s3(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An S3 program that runs and never answers, in the place of the real one."""
    program = home / "weed"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("FLOWQ_S3_BIN", str(program))
    return program


def endpoint_of(directory: Path) -> Endpoint:
    """What the keeper of this directory has recorded."""
    found = DataDirectory(directory).endpoint()
    assert found is not None
    return found


def is_alive(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes() if sys.platform == "linux" else os.kill(pid, 0) is None
    except OSError:
        return False


def is_unlocked(directory: Path) -> bool:
    """Whether the keeper and all its servers are gone."""
    if not directory.is_dir():
        return True
    lock_fd = DataDirectory(directory).try_lock()
    if lock_fd is None:
        return False
    os.close(lock_fd)
    return True


def stop_keeper(directory: Path) -> None:
    """Stops the keeper of this directory, if there is one, and waits until it has gone, also if it goes by itself."""
    if directory.is_symlink() or not directory.is_dir():
        return
    with contextlib.suppress(DataDirectoryUnusable):  # then it never had one
        if found := DataDirectory(directory).endpoint():
            with contextlib.suppress(ProcessLookupError):
                os.kill(found.keeper_pid, signal.SIGCONT)
                os.kill(found.keeper_pid, signal.SIGTERM)
        eventually(lambda: is_unlocked(directory))


def client_of(url: str) -> redis.Redis:
    """A client that does not retry, so that a test sees what happens, and waits for the slowest disk."""
    return redis.Redis.from_url(url, socket_timeout=PATIENCE_SECONDS, decode_responses=True)


def server_pid(url: str) -> int:
    """The process of the server with this URL, as it says itself; 0 while nothing listens there."""
    with contextlib.suppress(redis.ConnectionError), client_of(url) as client:
        return int(client.info("server")["process_id"])  # type: ignore[index]
    return 0


class OtherProcess:
    """A process of its own that attaches and stays; `server_pid` is the server it found."""

    def __init__(self, directory: Path, linger_seconds: float = LINGER_SECONDS) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CLIENT, str(directory), str(linger_seconds)],
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )

    @property
    def server_pid(self) -> int:
        """Waits until it has attached; 0 when it could not."""
        assert self.process.stdout is not None
        return server_pid(self.process.stdout.readline().decode().strip())

    def end(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Sends a signal to its whole process group, as a terminal would, and waits for its end."""
        os.killpg(self.process.pid, number)
        self.process.wait(10)
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
