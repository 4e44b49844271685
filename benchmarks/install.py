"""Puts peers at their pinned versions into a folder of the cache, with pip and npm as everybody uses them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.contestants import Contestant

_SECONDS_MAX = 600.0
_TAIL = 300


def missing(contestant: Contestant, cache: Path, *, may_install: bool) -> str:
    """Why it can't be measured here; empty: it can. Installs it first, if that is wanted."""
    if contestant.is_node and shutil.which("node") is None:
        return "there is no `node` on PATH"
    if not contestant.packages or _is_installed(contestant, cache):
        return ""
    if not may_install:
        return "not installed yet: run without --no-install"
    print(f"installing {contestant.name}: {' '.join(contestant.packages)}", file=sys.stderr)
    try:
        _install(contestant, contestant.home(cache))
    except subprocess.CalledProcessError as error:
        return f"could not be installed: {(error.stderr or error.stdout or '').strip()[-_TAIL:]}"
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"could not be installed: {error}"
    return ""


def _is_installed(contestant: Contestant, cache: Path) -> bool:
    try:
        return _note(contestant.home(cache)).read_text("utf-8") == _wanted(contestant)
    except OSError:
        return False


def _install(contestant: Contestant, home: Path) -> None:
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    if contestant.is_node:
        # A file of its own: without one npm looks for one in the folders above.
        (home / "package.json").write_text('{"private": true}\n', "utf-8")
        _call(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(home), *contestant.packages])
    else:
        _call([sys.executable, "-m", "venv", str(home)])
        pip = [contestant.python(home.parent), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        _call([*pip, *contestant.packages])
    _note(home).write_text(_wanted(contestant), "utf-8")


def _call(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_SECONDS_MAX)


def _note(home: Path) -> Path:
    """Written last: half an installation is none."""
    return home / ".installed"


def _wanted(contestant: Contestant) -> str:
    return json.dumps(contestant.packages)
