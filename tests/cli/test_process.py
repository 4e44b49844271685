"""The command as a process: what is written arrives, and the exit code with it."""

from __future__ import annotations

import signal
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


@pytest.mark.parametrize("module", ["msgspec", "flowq.pipeline", "flowq.cli", "flowq.cli.commands.list"])
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


def test_an_interrupt_while_python_m_flowq_loads_ends_it_as_silently(tmp_path: Path) -> None:
    done = interrupted_at_start(tmp_path, "-m", "flowq", "list", "--help")
    assert (done.returncode, done.stderr) == (130, "")


def test_an_interrupt_while_another_program_loads_flowq_is_that_programs(tmp_path: Path) -> None:
    done = interrupted_at_start(tmp_path, "-c", "import flowq")
    assert done.returncode == -signal.SIGINT
    assert done.stderr.splitlines()[-1] == "KeyboardInterrupt"


def interrupted_at_start(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Python with these arguments, which gets a Ctrl-C when it loads the first of what flowq needs."""
    (folder / "sitecustomize.py").write_text(_INTERRUPTED.format("flowq.pipeline").partition("sys.argv")[0])
    env = environment({})
    env["PYTHONPATH"] = f"{folder}:{env.get('PYTHONPATH', '')}"
    return subprocess.run([sys.executable, *words], env=env, cwd=ROOT, capture_output=True, text=True, timeout=40)


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
