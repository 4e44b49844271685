"""The workshop: the Makefile lists itself, .ci/run is sound, and what is built holds everything it needs."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.house.project import PACKAGE, ROOT

MAKEFILE = (ROOT / "Makefile").read_text("utf-8")
TARGETS = re.findall(r"^([a-z-]+):", MAKEFILE, flags=re.MULTILINE)


def test_make_alone_lists_every_target() -> None:
    """With what it does."""
    shown = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line.split()[1] for line in shown.splitlines()] == TARGETS


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_phony(target: str) -> None:
    """Or a file of that name would switch it off."""
    phony = re.findall(r"^\.PHONY: (.+)$", MAKEFILE, flags=re.MULTILINE)[0]
    assert target in phony.split()


def test_the_ci_script_is_sound_and_runs_targets_that_exist() -> None:
    """Checked by bash without running it."""
    script = ROOT / ".ci" / "run"
    subprocess.run(["bash", "-n", str(script)], check=True)
    text = script.read_text("utf-8")
    assert "set -euo pipefail" in text
    assert set(re.findall(r"^\s*make --no-print-directory ([a-z]+)", text, flags=re.MULTILINE)) <= set(TARGETS)


def test_the_wheel_and_the_source_hold_everything(tmp_path: Path) -> None:
    """Lua, the marker for type checkers, and the licence; nothing of the tests in the wheel."""
    for builder in ("build_wheel", "build_sdist"):
        program = f"from hatchling.build import {builder} as build; print(build({str(tmp_path)!r}))"
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    wheel = zipfile.ZipFile(next(tmp_path.glob("*.whl")))
    names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        path.relative_to(ROOT).as_posix()
        for path in PACKAGE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and not path.name.startswith(".")
    }
    assert names == expected
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as source:
        inside = {name.partition("/")[2] for name in source.getnames()}
    assert {"LICENSE", "README.md", "flowq/py.typed", "Makefile", "pyproject.toml"} <= inside
