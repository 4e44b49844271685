"""The command as a process: what is written arrives, and the exit code with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminal import ROOT, environment, flowq

# Ctrl-C at the moment when a module is about to be loaded.
_INTERRUPTED = """
import os, signal, sys
class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "{}":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupting())
sys.argv = ["flowq", "list", "--help"]
from flowq.__main__ import run
run()
"""


def test_what_was_printed_last_arrives_and_the_code_is_the_commands() -> None:
    done = flowq("--help")
    assert (done.code, done.out.rstrip().splitlines()[-1].split()[0]) == (0, "130")
    assert flowq("inspekt").code == 2


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    piped = f"set -o pipefail; {sys.executable} -m flowq --help | head -n 1"
    done = subprocess.run(["bash", "-c", piped], env=environment({}), cwd=ROOT, capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("module", ["flowq.cli", "flowq.cli.commands.list"])
def test_an_interrupt_while_it_loads_ends_it_without_a_traceback(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _INTERRUPTED.format(module)],
        env=environment({}),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=40,
    )
    assert done.returncode == 130
    assert done.stderr in ("", "flowq: interrupted\n")


def test_an_interrupt_that_is_ignored_stays_ignored() -> None:
    ignoring = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    done = subprocess.run(
        [sys.executable, "-c", ignoring + _INTERRUPTED.format("flowq.cli")], env=environment({}), cwd=ROOT, timeout=40
    )
    assert done.returncode == 0


def test_what_a_module_wants_done_at_exit_is_done(tmp_path: Path) -> None:
    (tmp_path / "tidy.py").write_text("import atexit\natexit.register(print, 'tidied up')\n")
    done = flowq("submit", f"{tmp_path / 'tidy.py'}:absent")
    assert (done.code, done.out) == (2, "tidied up\n")
