"""The command as a process: what is written arrives, and the exit code with it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.cli.terminal import ROOT, environment, flowq


def test_what_was_printed_last_arrives_and_the_code_is_the_commands() -> None:
    done = flowq("--help")
    assert (done.code, done.out.rstrip().splitlines()[-1].split()[0]) == (0, "130")
    assert flowq("inspekt").code == 2


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    piped = f"set -o pipefail; {sys.executable} -m flowq --help | head -n 1"
    done = subprocess.run(["bash", "-c", piped], env=environment({}), cwd=ROOT, capture_output=True, text=True, timeout=40)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_a_module_wants_done_at_exit_is_done(tmp_path: Path) -> None:
    (tmp_path / "tidy.py").write_text("import atexit\natexit.register(print, 'tidied up')\n")
    done = flowq("submit", f"{tmp_path / 'tidy.py'}:absent")
    assert (done.code, done.out) == (2, "tidied up\n")
