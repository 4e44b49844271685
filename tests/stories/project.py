"""A project as its user has it: a directory, its servers, `flowq` commands, workers; and what a story asks of them.

Every process is a real one and is ended by its own pid. Nothing here sleeps: it waits by running the next command.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import redis

from flowq.embedded import Attachment, attach

ROOT = Path(__file__).resolve().parents[2]
SHORT_VIDEO = ROOT / "examples" / "pipelines" / "short_video.py"
NOTES = Path(__file__).with_name("notes.py")

_COMMAND_SECONDS_MAX = 60
_STOP_SECONDS_MAX = 45


class Project:
    """A directory in which everything runs.

    Attributes:
        directory: the current directory of all its commands.
        servers: a hold on its Valkey and S3.
    """

    def __init__(self, directory: Path, servers: Attachment) -> None:
        self.directory = directory
        self.servers = servers
        self._workers: list[subprocess.Popen[bytes]] = []

    def flowq(self, *words: str, exit_code: int = 0, **environment: str) -> str:
        """Runs a command and returns its stdout; the test fails if it ends otherwise than said."""
        done = subprocess.run(
            [sys.executable, "-m", "flowq", *words],
            cwd=self.directory, env=self.environment(**environment), stdin=subprocess.DEVNULL,
            capture_output=True, text=True, timeout=_COMMAND_SECONDS_MAX, check=False,
        )  # fmt: skip
        assert done.returncode == exit_code, f"flowq {' '.join(words)}: exit code {done.returncode}\n{done.stderr}\n{self.logs()}"
        return done.stdout

    def worker(self, *modules: Path, **environment: str) -> subprocess.Popen[bytes]:
        """Starts a worker."""
        with open(self.directory / f"worker-{len(self._workers)}.log", "wb") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "flowq", "worker", *map(str, modules)],
                cwd=self.directory, env=self.environment(**environment), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self._workers.append(worker)
        return worker

    def submit(self, target: str, **inputs: object) -> str:
        """Starts a flow and returns its id."""
        given = [word for name, value in inputs.items() for word in ("-i", f"{name}={value}")]
        return self.flowq("submit", target, *given).strip()

    def inspect(self, flow_id: str) -> dict[str, Any]:
        """The flow's snapshot, as `flowq inspect -o json` gives it; stages by name under "by_name"."""
        snapshot: dict[str, Any] = json.loads(self.flowq("inspect", flow_id, "-o", "json"))["data"]
        snapshot["by_name"] = {stage["name"]: stage for stage in snapshot["graph"]}
        return snapshot

    def until(self, flow_id: str, seconds: float, holds: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """The first snapshot of which `holds` is true. Fails when the flow ends otherwise, or after `seconds`."""
        give_up_at = time.monotonic() + seconds
        while not holds(snapshot := self.inspect(flow_id)):
            assert time.monotonic() < give_up_at, f"not so after {seconds} s: {_states(snapshot)}\n{self.logs()}"
            assert snapshot["ended_at"] is None, f"ended before that: {_states(snapshot)}\n{self.logs()}"
        return snapshot

    def until_completed(self, flow_id: str, seconds: float) -> dict[str, Any]:
        """The snapshot of the completed flow."""
        return self.until(flow_id, seconds, lambda snapshot: snapshot["state"] == "completed")

    def environment(self, **more: str) -> dict[str, str]:
        """What its processes get; nothing that the machine's own settings say about flowq."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("FLOWQ_")}
        path = os.pathsep.join(part for part in (str(ROOT), inherited.get("PYTHONPATH", "")) if part)
        return inherited | {"PYTHONPATH": path, "FLOWQ_URL": "embedded:", "NO_COLOR": "1"} | more

    def redis(self) -> redis.Redis:
        """A client of its Valkey; close it."""
        return redis.Redis.from_url(self.servers.url)

    def logs(self) -> str:
        """The ends of all its workers' logs."""
        logs = sorted(self.directory.glob("worker-*.log"))
        return "\n".join(f"--- {log.name}\n{log.read_text('utf-8', 'replace')[-3000:]}" for log in logs)

    def close(self) -> None:
        """Ends what it started."""
        for worker in self._workers:
            stop(worker)
        self.servers.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.servers.keeper_pid, signal.SIGTERM)


@contextlib.contextmanager
def project_in(directory: Path) -> Iterator[Project]:
    """A project with running servers, ended with the block."""
    project = Project(directory, attach(directory / ".flowq", linger_seconds=1))
    try:
        yield project
    finally:
        project.close()


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks a process to end, and makes it if it does not."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(_STOP_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def kill(pid: int) -> float:
    """SIGKILL: the process gets no chance to say or tidy anything. Returns when, in seconds since 1970."""
    os.kill(pid, signal.SIGKILL)
    return time.time()


def moment(iso: str) -> float:
    """A time of the JSON output, in seconds since 1970."""
    return datetime.fromisoformat(iso.replace("Z", "+00:00")).timestamp()


def _states(snapshot: dict[str, Any]) -> str:
    stages = (f"{stage['name']} {stage['state']} {stage['progress']} (runs {stage['runs']})" for stage in snapshot["graph"])
    return f"{snapshot['state']}: {', '.join(stages)}"
