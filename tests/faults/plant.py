"""A server that can be killed and started again, workers that can be killed, and what was noted of their stages."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from flowq import FlowHandle, FlowProducer
from flowq.embedded.binaries import find_valkey
from flowq.embedded.valkey import ask
from flowq.model.snapshot import FlowSnapshot
from tests.engine.waiting import eventually
from tests.stories.processes import all_processes

ROOT = Path(__file__).resolve().parents[2]
STAGES = Path(__file__).with_name("stages.py")
PATIENCE = 60.0


class Noted(NamedTuple):
    """One line of the journal."""

    stage: str
    flow_id: str
    pid: int
    word: str
    at: float


class Plant:
    """A directory with one server and any number of workers, all ended with it.

    Attributes:
        directory: where everything is.
        url: the server's.
        namespace: the one that its workers and producers use.
    """

    def __init__(self, **config: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="fqf-", dir="/tmp"))
        self.url = f"unix://{self.directory}/valkey.sock"
        self.namespace = f"t{secrets.token_hex(4)}"
        self._config = {"appendonly": "yes", "appendfsync": "always", "save": "", "enable-debug-command": "local", **config}
        self._server: subprocess.Popen[bytes] | None = None
        self._workers: list[subprocess.Popen[bytes]] = []
        self.start_server()

    # ── the server ───────────────────────────────────────────────────────────────────────────────────────────────

    def start_server(self) -> None:
        """Starts it on the data that is there, and waits until it answers."""
        self._is_killed = False
        socket = self.directory / "valkey.sock"
        options = {"port": "0", "unixsocket": str(socket), "dir": str(self.directory), **self._config}
        argv = [str(find_valkey().path), *(word for name, value in options.items() for word in (f"--{name}", value))]
        with open(self.directory / "valkey.log", "ab") as log:
            self._server = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return ask(socket, "PING").startswith("+PONG")
            return False

        eventually(answers, PATIENCE, self.logs)

    def kill_server(self) -> None:
        """SIGKILL."""
        assert self._server is not None
        self._is_killed = True
        self._server.kill()
        self._server.wait()

    def signal_server(self, number: int) -> None:
        """SIGSTOP, SIGCONT."""
        assert self._server is not None
        self._server.send_signal(number)

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def environment(self) -> dict[str, str]:
        """What its processes get."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("FLOWQ_", "AWS_"))}
        own = {"FLOWQ_URL": self.url, "FLOWQ_NAMESPACE": self.namespace, "FLOWQ_TEST_JOURNAL": str(self.directory / "journal")}
        return inherited | own | {"PYTHONPATH": str(ROOT), "NO_COLOR": "1"}

    def worker(self, *words: str, module: str | Path = STAGES, **environment: str) -> subprocess.Popen[bytes]:
        """Starts `flowq worker`."""
        return self._started([sys.executable, "-m", "flowq", "worker", str(module), *words], environment)

    def short_lease_worker(self, **options: Any) -> subprocess.Popen[bytes]:
        """Starts a worker whose lease is one second."""
        configured = msgspec.json.encode({"modules": [str(STAGES)], "lease_ms": 1_000, **options}).decode()
        script = str(Path(__file__).with_name("short_lease.py"))
        return self._started([sys.executable, script, self.url, self.namespace, configured], {})

    def _started(self, argv: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
        with open(self.directory / f"worker-{len(self._workers)}.log", "wb") as log:
            worker = subprocess.Popen(
                argv, cwd=self.directory, env=self.environment | environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        self._workers.append(worker)
        return worker

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(f"--- {log.name}\n{log.read_text()[-3000:]}" for log in sorted(self.directory.glob("*.log")))

    def flowq(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Runs a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "flowq", *words], cwd=self.directory, env=self.environment | environment,
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE, check=False,
        )  # fmt: skip

    # ── what happened ────────────────────────────────────────────────────────────────────────────────────────────

    def noted(self, stage: str = "", word: str = "start") -> list[Noted]:
        """What stages noted, the first first."""
        journal = self.directory / "journal"
        if not journal.exists():
            return []
        lines = (line.split() for line in journal.read_text().splitlines())
        found = [Noted(name, flow_id, int(pid), said, float(at)) for name, flow_id, pid, said, at in lines]
        return [one for one in found if one.word == word and (not stage or one.stage.partition("-")[0] == stage)]

    def until(self, holds: Callable[[], Any], seconds: float = PATIENCE) -> Any:
        """What `holds` gives, once it is true."""
        return eventually(holds, seconds, self.logs)

    def until_noted(self, stage: str, count: int = 1) -> list[Noted]:
        """Waits until so many runs of a stage have begun."""
        return self.until(lambda: found if len(found := self.noted(stage)) >= count else None)

    def close(self) -> None:
        """Ends everything that was started here, by pid."""
        for worker in self._workers:
            if worker.poll() is None:
                worker.kill()
            worker.wait()
        if self._server is not None and self._server.poll() is None:
            self._server.send_signal(signal.SIGCONT)
            self.kill_server()
        elif self._server is not None and not self._is_killed:
            print(f"the server ended by itself: {self._server.returncode}\n{self.logs()}")
        shutil.rmtree(self.directory, ignore_errors=True)


def tree_of(pid: int) -> list[int]:
    """A process and all below it, itself first."""
    processes, found = all_processes(), [pid]
    for one in found:
        found += [process.pid for process in processes.values() if process.parent == one]
    return found


def kill_tree(worker: subprocess.Popen[bytes]) -> float:
    """SIGKILL to a worker and all its processes; returns when, in seconds since 1970."""
    at = time.time()
    for pid in tree_of(worker.pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    worker.wait()
    return at


@contextlib.asynccontextmanager
async def producer_of(plant: Plant) -> AsyncIterator[FlowProducer]:
    """A producer on the plant's server."""
    async with FlowProducer(plant.url, namespace=plant.namespace) as producer:
        yield producer


async def ended(flow: FlowHandle[Any]) -> FlowSnapshot:
    """The flow once it has ended, however it did."""
    with contextlib.suppress(Exception):
        await flow.result(PATIENCE)
    return await flow.inspect()
