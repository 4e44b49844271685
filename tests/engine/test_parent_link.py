"""A child dies with its supervisor, and takes its programs along, whatever it is doing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.engine.processes import OPEN_LINK, ROOT, RUN_PROGRAM, SLEEP_ON, is_running, running_python, said, wait_until_gone

_HOLDS_THE_INTERPRETER_LOCK = "import ctypes\nctypes.PyDLL(None).sleep(1000)\n"
_SAY_PID = "link.say(Note('pids', [os.getpid()]))\n"
_SUPERVISOR = """
import asyncio, sys
from flowq.engine.process.child_process import ChildProcess
async def main():
    told = lambda message: print(*message.body, flush=True)
    child = await ChildProcess.start({module!r}, None, on_message=told)
    await child.exited()
    print("exited", flush=True)
asyncio.run(main())
"""


@pytest.mark.parametrize(
    "ending",
    [
        RUN_PROGRAM,
        _SAY_PID + SLEEP_ON,
        _SAY_PID + _HOLDS_THE_INTERPRETER_LOCK,
    ],
    ids=["runs a program", "blocks its main thread", "holds the interpreter lock"],
)
def test_a_killed_supervisor_takes_its_children_and_their_programs_along(tmp_path: Path, ending: str) -> None:
    (tmp_path / "orphan_to_be.py").write_text(OPEN_LINK + ending)
    with running_python(_SUPERVISOR.format(module="orphan_to_be"), PYTHONPATH=f"{tmp_path}:{ROOT}") as supervisor:
        pids = [int(word) for word in said(supervisor).split()]
        assert pids
        assert all(is_running(pid) for pid in pids)
        os.kill(supervisor.pid, signal.SIGKILL)
        for pid in pids:
            wait_until_gone(pid)


def test_the_lifeline_alone_ends_a_child_with_its_programs(tmp_path: Path) -> None:
    """What other systems rely on, which have no parent-death signal."""
    without_signal = "import flowq.engine.process.parent_link as pl\npl._die_with = lambda parent_pid: None\n"
    (tmp_path / "orphan_to_be.py").write_text(without_signal + OPEN_LINK + RUN_PROGRAM)
    with running_python(_SUPERVISOR.format(module="orphan_to_be"), PYTHONPATH=f"{tmp_path}:{ROOT}") as supervisor:
        pids = [int(word) for word in said(supervisor).split()]
        os.kill(supervisor.pid, signal.SIGKILL)
        for pid in pids:
            wait_until_gone(pid)


def test_a_program_started_by_hand_is_told_that_it_is_no_child() -> None:
    with running_python(
        "from flowq.engine.process.parent_link import ParentLink\ntry: ParentLink.open()\nexcept Exception as e: print(e)"
    ) as process:
        assert process.stdin is not None
        process.stdin.write("hello\n")
        process.stdin.close()
        assert "flowq's supervisor" in said(process)
