"""`flowq dev` in a terminal: real servers, a real worker, a reload, one Ctrl-C."""

from __future__ import annotations

import json
import os
import select
import shlex
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import FLOWS
from tests.cli.gate import Gate
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


WRITING = """
from flowq import Artifact, context, pipeline, stage

@stage
async def greet(name: str) -> Artifact:
    async with context().new_artifact("a.txt") as sink:
        await sink.write(b"hello " + name.encode())
    return sink.artifact

@pipeline
def greeting(name: str) -> Artifact:
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


def worker_of(dev: Terminal) -> int:
    """The pid of the worker that this `flowq dev` started last."""
    return int(Path(f"/proc/{dev.process.pid}/task/{dev.process.pid}/children").read_text().split()[-1])


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
        terminal.until("ended with exit code 2; it starts again when a .py file changes")
        assert "no_such_module" in terminal.out
        (project / "greetings.py").write_text(MODULE)
        terminal.until("reloading")
        assert submit(project).code == 0


@pytest.mark.parametrize("module", ["no_such_file.py", "no_such_module", "greetings.py:greeting"])
def test_dev_refuses_a_module_that_is_not_there_before_it_starts_a_server(project: Path, module: str) -> None:
    ran = flowq("dev", module, env=ENV, cwd=project)
    assert (ran.code, ran.out) == (2, "")
    assert module in ran.err.splitlines()[0]
    assert not (project / ".flowq").exists()


def test_dev_without_reload_ends_with_its_worker(project: Path) -> None:
    (project / "greetings.py").write_text("import no_such_module")
    ran = flowq("dev", "greetings.py", "--ephemeral", "--no-reload", env=ENV, cwd=project)
    assert ran.code == 2
    assert "the worker ended with exit code 2" in ran.err
    assert "starts again" not in ran.err


def test_dev_serves_the_namespace_it_was_given(project: Path) -> None:
    with Terminal(["dev", "--ephemeral", "--no-reload", "-n", "other"], env=ENV, cwd=project, width=120) as terminal:
        terminal.until("was submitted")
        assert flowq("watch", "latest", "-n", "other", env=ENV, cwd=project).code == 0


def test_the_commands_that_dev_tells_to_try_find_its_servers_wherever_they_are(project: Path) -> None:
    words = ["dev", "greetings.py", "--ephemeral", "--no-reload", "--data-dir", "else where", "-n", "other"]
    elsewhere = {**ENV, "FLOWQ_URL": "redis://127.0.0.1:1"}
    for env, namespace in ((ENV, "other"), (elsewhere, "other")):
        with Terminal(words, env=env, cwd=project, width=200) as terminal:
            terminal.until("Ctrl-C stops all of this")
            line = next(line for line in terminal.out.splitlines() if line.startswith("try "))
            told = shlex.split(line.removeprefix("try").replace("PIPELINE", "greeting").replace("key=value", "name=you"))
            assert told[:5] == ["flowq", "-u", f"embedded:{project}/else where", "-n", namespace]
            assert flowq(*told[1:], env=env, cwd=project).code == 0
            terminal.press("\x03")
            assert terminal.end().code == 0


def test_dev_keeps_artifacts_with_its_own_servers_and_tells_how_to_reach_them(project: Path, tmp_path: Path) -> None:
    (project / "greetings.py").write_text(WRITING)
    (project / "flowq.toml").write_text(f'artifacts = "file:{tmp_path}/of-the-file"\n')
    for env in (ENV, {**ENV, "FLOWQ_ARTIFACTS": f"file:{tmp_path}/of-the-shell"}):
        with Terminal(["dev", "greetings.py", "--ephemeral", "--no-reload"], env=env, cwd=project, width=250) as terminal:
            terminal.until("Ctrl-C stops all of this")
            line = next(line for line in terminal.out.splitlines() if line.startswith("try "))
            told = shlex.split(line.removeprefix("try").replace("PIPELINE", "greeting").replace("key=value", "name=you"))
            assert flowq(*told[1:], env=env, cwd=project).code == 0
            options = told[1 : told.index("submit")]
            assert flowq(*options, "artifact", "latest", "greet", "-O", "-", env=env, cwd=project).out == "hello you"
            terminal.press("\x03")
            assert terminal.end().code == 0
    assert not list(tmp_path.glob("of-the-*"))


def test_a_second_ctrl_c_does_not_wait_for_running_stages(project: Path, gate: Gate) -> None:
    patient = {**ENV, "FLOWQ_WORKER_DRAIN_TIMEOUT": "10m"}
    with Terminal(["dev", FLOWS, "--ephemeral", "--no-reload"], env=patient, cwd=project, width=120) as terminal:
        terminal.until("Ctrl-C stops all of this")
        assert flowq("submit", f"{FLOWS}:waiting", "-i", f"path={gate.path}", env=ENV, cwd=project).code == 0
        with gate.arrival():
            worker = worker_of(terminal)
            os.kill(worker, signal.SIGSTOP)  # both reach it in the same moment, as on a busy machine
            terminal.press("\x03")
            terminal.until("flowq: stopping")
            terminal.press("\x03")
            terminal.until("running stages are handed back")
            os.kill(worker, signal.SIGCONT)
            assert terminal.end().code == 0


def test_a_worker_that_was_killed_early_is_started_again_when_a_file_changes(project: Path) -> None:
    with Terminal(["dev", "greetings.py", "--ephemeral"], env=ENV, cwd=project, width=120) as terminal:
        terminal.until("Ctrl-C stops all of this")
        os.kill(worker_of(terminal), signal.SIGKILL)
        terminal.until("the worker was killed by signal 9; it starts again when a .py file changes")
        (project / "greetings.py").write_text(MODULE + "\n")
        terminal.until("greetings.py changed, reloading")
        assert submit(project).code == 0


def test_a_killed_dev_leaves_no_worker_behind(project: Path) -> None:
    with Terminal(["dev", "greetings.py", "--ephemeral"], env=ENV, cwd=project) as terminal:
        terminal.until("Ctrl-C stops all of this")
        assert submit(project).code == 0  # the worker is up
        watched = os.pidfd_open(worker_of(terminal))
        terminal.process.kill()
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
