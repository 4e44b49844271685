"""The harness's side of the conversation with a driver: a process that gets an order a line and answers in JSON."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from typing import IO, Any

# No order takes longer on a slow machine, but the largest ones of the slowest peers.
ANSWER_SECONDS_MAX = 600.0
_GOODBYE_SECONDS = 10.0
_TAIL = 600


class DriverFailed(Exception):
    """A driver died, or took too long; with the end of what it said about it."""


class Conversation:
    """With one driver."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[bytes]) -> None:
        self._process, self._errors = process, errors
        self.pid = process.pid
        self.versions: Mapping[str, str] = self._answer("start")["versions"]

    def ask(self, do: str, **words: Any) -> dict[str, Any]:
        """Gives an order and waits until it has been carried out.

        Raises:
            DriverFailed: it was not.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **words}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failed(do) from error
        return self._answer(do)

    def _answer(self, do: str) -> dict[str, Any]:
        assert self._process.stdout is not None
        overdue = threading.Timer(ANSWER_SECONDS_MAX, self._process.kill)
        overdue.start()
        try:
            line = self._process.stdout.readline()
        finally:
            overdue.cancel()
        if not line:
            raise self._failed(do)
        return json.loads(line)

    def _failed(self, do: str) -> DriverFailed:
        self._process.kill()
        self._process.wait()
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").strip()[-_TAIL:]
        return DriverFailed(f"no answer to {do!r} (exit code {self._process.returncode}): {said}")


@contextlib.contextmanager
def talking(argv: Sequence[str], environment: Mapping[str, str]) -> Iterator[Conversation]:
    """Starts a driver; when the block ends it is asked to go, and killed if it does not."""
    # A directory of its own: the current one would come first on a Python's path, and peers leave files behind.
    with tempfile.TemporaryDirectory() as directory, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv, cwd=directory, env={**os.environ, **environment},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True,
        )  # fmt: skip
        try:
            yield Conversation(process, errors)
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_GOODBYE_SECONDS)
        finally:
            process.kill()
            process.wait()
