"""Everything that was found, as JSON for machines: tables and plots are made from it, now or years later."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import ROOT, Contestant
from benchmarks.figures import Row
from benchmarks.rounds import Failure
from benchmarks.stand import Server, Sizes

SCHEMA_VERSION = 1
_KEYS = {"measured_at", "commit", "is_modified", "machine", "server", "seed", "rounds", "contestants", "figures", "failures"}


def document(
    found: Sequence[Row], failures: Sequence[Failure], contestants: Sequence[Mapping[str, Any]], servers: Mapping[str, Server],
    *, rounds: int, sizes: Sizes, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """All values with what they were measured on."""
    return {
        "schema_version": SCHEMA_VERSION,
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": _git("rev-parse", "HEAD"),
        "is_modified": bool(_git("status", "--porcelain", "--untracked-files=no")),
        "machine": _machine(),
        "server": _server(servers),
        "seed": seed,
        "rounds": rounds,
        "sizes": sizes._asdict(),
        "contestants": list(contestants),
        "figures": [row._asdict() for row in found],
        "failures": [failure._asdict() for failure in failures],
    }


def about(contestant: Contestant, *, versions: Mapping[str, str], why_missing: str) -> dict[str, Any]:
    """What a reader must know of a contestant."""
    return {
        "name": contestant.name,
        "language": "Node" if contestant.is_node else "Python",
        "is_python_peer": contestant.is_python_peer,
        "packages": list(contestant.packages),
        "versions": dict(versions),
        "settings": contestant.settings,
        "share": contestant.share,
        "missing": why_missing,
    }


class NoFigures(Exception):
    """A file is missing, or holds something else than what `document` makes."""


def read(path: Path) -> dict[str, Any]:
    """What was written to the file before.

    Raises:
        NoFigures: names the file.
    """
    try:
        made = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise NoFigures(f"{path} can't be read: {error.strerror}") from error
    except ValueError as error:
        raise NoFigures(f"{path} is no JSON: {error}; give a file that --output has written") from error
    if not isinstance(made, dict) or made.get("schema_version") != SCHEMA_VERSION or not made.keys() >= _KEYS:
        raise NoFigures(f"{path} holds no figures of version {SCHEMA_VERSION}; give a file that --output has written")
    return made


def rows_of(made: Mapping[str, Any]) -> list[Row]:
    """The figures of a document."""
    return [Row(**figure) for figure in made["figures"]]


def written(made: Mapping[str, Any], path: Path) -> None:
    """Writes it, for people who compare files too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _machine() -> dict[str, Any]:
    """No names: the file is published."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    return {
        "cpus": os.cpu_count(),
        "model": _cpu_model(),
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "load_at_the_end": load,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _server(servers: Mapping[str, Server]) -> dict[str, Any]:
    asked: dict[str, Any] = next(iter(servers.values())).client.info("server")
    return {"name": asked.get("server_name", "redis"), "version": asked.get("valkey_version", asked["redis_version"])}


def _git(*words: str) -> str:
    try:
        return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
