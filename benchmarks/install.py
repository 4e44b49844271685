"""Puts peers, and the profiler, at their pinned versions into a folder of the cache, with pip and npm as everybody uses them.

python -m benchmarks.install    # all that can run here: a test of each then takes part in `make test`
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.contestants import CONTESTANTS, PROFILER, ROOT, Contestant

# Where the peers are, unless somebody wants them elsewhere.
CACHE = ROOT / ".bench"

_SECONDS_MAX = 600.0
_TAIL = 300


def main(contestants: Sequence[Contestant] = (*CONTESTANTS, PROFILER), cache: Path = CACHE) -> int:
    """Installs the peers; 1: one of them could not be installed. Where there is no Node, what needs it is left out."""
    code = 0
    for each in contestants:
        if why := missing(each, cache, may_install=True):
            print(f"{each.name}: {why}", file=sys.stderr)
            code = code if lacks_node(each) else 1
    return code


def lacks_node(contestant: Contestant) -> bool:
    """Whether it runs in Node, and this machine has none."""
    return contestant.is_node and shutil.which("node") is None


def missing(contestant: Contestant, cache: Path, *, may_install: bool) -> str:
    """Why it can't be measured here; empty: it can. Installs it first, if that is wanted."""
    if lacks_node(contestant):
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
        # With this environment's own pip: to put one into each takes longer than what is to be installed.
        _call([sys.executable, "-m", "venv", "--without-pip", str(home)])
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "--python", contestant.python(home.parent)]
        _call([*pip, "install", *contestant.packages])
    _note(home).write_text(_wanted(contestant), "utf-8")


def _call(argv: list[str]) -> None:
    subprocess.run(argv, check=True, capture_output=True, text=True, timeout=_SECONDS_MAX)


def _note(home: Path) -> Path:
    """Written last: half an installation is none."""
    return home / ".installed"


def _wanted(contestant: Contestant) -> str:
    return json.dumps(contestant.packages)


if __name__ == "__main__":
    sys.exit(main())
