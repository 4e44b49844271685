"""The types of wiring: what is right passes pyright strict and mypy --strict, and each wrong file fails in its marked line.

The checkers run once each, over the whole folder.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
WRONG = sorted(path.name for path in HERE.glob("wrong_*.py"))
FILES = ["good.py", *WRONG]

# File name → lines with an error.
Errors = dict[str, set[int]]


@pytest.fixture(scope="session")
def pyright_errors() -> Errors:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(HERE)]
    report = json.loads(_output_of(command))
    assert report["summary"]["filesAnalyzed"] >= len(FILES)
    errors: Errors = {name: set() for name in FILES}
    for diagnostic in report["generalDiagnostics"]:
        if diagnostic["severity"] == "error":
            errors[Path(diagnostic["file"]).name].add(diagnostic["range"]["start"]["line"] + 1)
    return errors


@pytest.fixture(scope="session")
def mypy_errors(tmp_path_factory: pytest.TempPathFactory) -> Errors:
    cache = tmp_path_factory.mktemp("mypy")
    options = ["--strict", "--config-file=", "--follow-imports=silent", f"--cache-dir={cache}", "--no-error-summary"]
    packages = ["--explicit-package-bases", "--namespace-packages"]
    command = [sys.executable, "-m", "mypy", *options, *packages, *(f"tests/typing/{name}" for name in FILES)]
    errors: Errors = {name: set() for name in FILES}
    for line in _output_of(command).splitlines():
        if found := re.match(r"tests/typing/([\w.]+):(\d+): error:", line):
            errors[found[1]].add(int(found[2]))
    return errors


@pytest.mark.timeout(300)
def test_right_wiring_passes_both_checkers(pyright_errors: Errors, mypy_errors: Errors) -> None:
    assert pyright_errors["good.py"] == set()
    assert mypy_errors["good.py"] == set()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", WRONG)
def test_wrong_wiring_fails_in_exactly_its_marked_line(name: str, pyright_errors: Errors, mypy_errors: Errors) -> None:
    marked = {number for number, line in enumerate((HERE / name).read_text("utf-8").splitlines(), 1) if "# ERROR" in line}
    assert len(marked) == 1
    assert pyright_errors[name] == marked
    assert mypy_errors[name] == marked


def test_there_are_twenty_two_wrong_wirings() -> None:
    assert len(WRONG) == 22


def _output_of(command: list[str]) -> str:
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout, done.stderr
    return done.stdout
