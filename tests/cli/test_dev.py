"""`flowq dev` in a terminal: real servers, a real worker, a reload, one Ctrl-C."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.cli.terminal import ROOT, Ran, Terminal, flowq

# A directory stands in for the S3 server, which would take two seconds more to start and has tests of its own.
ENV = {"FLOWQ_S3_BIN": "/nonexistent", "PYTHONPATH": str(ROOT)}
MODULE = """
from flowq import pipeline, stage

@stage
async def greet(name: str) -> str:
    return "hello " + name

@pipeline
def greeting(name: str) -> str:
    return greet(name)
"""


def submit(project: Path) -> Ran:
    return flowq("submit", "greetings.py:greeting", "-i", "name=you", "--wait", env=ENV, cwd=project)


def workers_in(project: Path) -> list[str]:
    """The worker processes of this project: the servers' keeper may stay a few seconds longer."""
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
            if "greetings.py" in command and "worker" in command and (process / "cwd").readlink() == project:
                found.append(command)
        except OSError:
            continue
    return found


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "greetings.py").write_text(MODULE)
    (tmp_path / "pyproject.toml").write_text("")
    return tmp_path


def test_dev_serves_a_module_reloads_it_and_stops_at_one_ctrl_c(project: Path) -> None:
    with Terminal(["dev", "greetings.py", "--ephemeral"], env=ENV, cwd=project, width=120) as terminal:
        terminal.until("Ctrl-C stops all of this")
        assert submit(project).out.splitlines()[1] == '"hello you"'
        (project / "greetings.py").write_text(MODULE.replace('"hello "', '"goodbye, " + "dear " '))
        terminal.until("greetings.py changed, reloading")
        assert submit(project).out.splitlines()[1] == '"goodbye, dear you"'
        terminal.press("\x03")
        ran = terminal.end()
    assert ran.code == 0
    assert "Traceback" not in ran.out
    assert workers_in(project) == []


def test_dev_survives_a_module_that_does_not_load_until_it_does(project: Path) -> None:
    (project / "greetings.py").write_text("import no_such_module")
    with Terminal(["dev", "greetings.py", "--ephemeral"], env=ENV, cwd=project, width=120) as terminal:
        terminal.until("starts again when a file changes")
        assert "no_such_module" in terminal.out
        (project / "greetings.py").write_text(MODULE)
        terminal.until("reloading")
        assert submit(project).code == 0


def test_a_killed_dev_leaves_no_worker_behind(project: Path) -> None:
    with Terminal(["dev", "greetings.py", "--ephemeral"], env=ENV, cwd=project) as terminal:
        terminal.until("Ctrl-C stops all of this")
        assert submit(project).code == 0  # the worker is up
        worker = int(Path(f"/proc/{terminal.process.pid}/task/{terminal.process.pid}/children").read_text().split()[-1])
        watched = os.pidfd_open(worker)
        terminal.process.kill()
        import select

        assert select.select([watched], [], [], 30)[0], "the worker outlived `flowq dev`"
        os.close(watched)


def test_dev_without_a_module_serves_the_sample(project: Path) -> None:
    with Terminal(["dev", "--ephemeral", "--no-reload"], env=ENV, cwd=project, width=120) as terminal:
        terminal.until("was submitted")
        ran = flowq("watch", "latest", "-o", "jsonl", env=ENV, cwd=project)
        assert ran.code == 0
        flow = json.loads(ran.out.splitlines()[-1])["data"]
        assert {stage["name"]: stage["attempt"] for stage in flow["graph"]} == {
            "collect": 1,
            "add_up": 1,
            "average": 2,
            "report": 1,
        }
        assert "total 2470, average 123.50" in flowq("artifact", "latest", "report", "-O", "-", env=ENV, cwd=project).out
