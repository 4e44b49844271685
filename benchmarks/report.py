"""Figures as a table for people and as JSON for machines."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import time
from importlib import metadata
from typing import Any

Results = dict[str, dict[str, list[float]]]

_PACKAGES = ("redis", "hiredis", "msgspec", "uvloop")


def table(results: Results) -> str:
    """Median and range over the rounds, a column per contestant; the last one says how flowq stands to the floor."""
    names = list(dict.fromkeys(["flowq", *results]))
    figures = list(dict.fromkeys(figure for name in names for figure in results[name]))
    width = max(map(len, figures))
    lines = [f"{'':{width}}  " + "  ".join(f"{name[-24:]:>24}" for name in names)]
    for figure in figures:
        cells = [_cell(results[name].get(figure)) for name in names]
        lines.append(f"{figure:{width}}  " + "  ".join(f"{cell:>24}" for cell in cells))
    return "\n".join(lines)


def document(results: Results, options: argparse.Namespace) -> dict[str, Any]:
    """All values with what they were measured on."""
    return {
        "measured_at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "machine": {"cpus": os.cpu_count(), "system": platform.system(), "machine": platform.machine()},
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "options": {name: getattr(options, name) for name in ("flows", "rounds", "alone", "fsync", "loop")},
        "results": results,
    }


def _cell(values: list[float] | None) -> str:
    if not values:
        return "·"
    middle = statistics.median(values)
    if len(values) == 1:
        return _number(middle)
    return f"{_number(middle)} ({_number(min(values))}–{_number(max(values))})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
