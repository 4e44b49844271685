"""A real server with a real worker beside it, for the commands that talk to one."""

from __future__ import annotations

import secrets
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.cli.gate import Gate
from tests.cli.terminal import ROOT, Ran, environment, flowq_here

FLOWS = "tests.cli.flows"


@pytest.fixture(scope="session")
def server(valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, str]]:
    """The settings that lead to a server with a worker that serves the test pipelines."""
    artifacts = tmp_path_factory.mktemp("artifacts")
    settings = {"FLOWQ_URL": valkey_url, "FLOWQ_NAMESPACE": f"cli{secrets.token_hex(4)}", "FLOWQ_ARTIFACTS": f"file:{artifacts}"}
    # Of the queues of the test pipelines it serves the default one only, so that one flow can be stuck.
    command = [sys.executable, "-m", "flowq", "worker", FLOWS, "-q", "default", "--drain-timeout", "1s"]
    worker = subprocess.Popen(command, env=environment(settings), cwd=ROOT, stdin=subprocess.DEVNULL)
    try:
        yield settings
    finally:
        worker.terminate()
        try:
            worker.wait(20)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()


@pytest.fixture(scope="session")
def run(server: Mapping[str, str]) -> Callable[..., Ran]:
    """Runs a command against that server."""

    def run_command(*words: str, stdin: str = "", env: Mapping[str, str] = {}, cwd: Path | None = None) -> Ran:
        return flowq_here(*words, env={**server, **env}, stdin=stdin, cwd=cwd)

    return run_command


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate for the pipeline `waiting`."""
    gate = Gate(tmp_path)
    yield gate
    gate.close()


@pytest.fixture(scope="session")
def finished(run: Callable[..., Ran]) -> str:
    """The id of a completed flow."""
    ran = run("submit", f"{FLOWS}:simple", "-i", "text=hello", "--id", "finished", "--tag", "beta", "--tenant", "acme", "--wait")
    assert ran.code == 0, ran
    return "finished"


@pytest.fixture(scope="session")
def failed(run: Callable[..., Ran]) -> str:
    """The id of a failed flow whose error is hostile to terminals."""
    ran = run("submit", f"{FLOWS}:failing", "--id", "broken", "--wait")
    assert ran.code == 5, ran
    return "broken"
