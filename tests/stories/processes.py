"""Which process runs what, as the kernel tells (Linux only): a story that kills must know whom."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import pytest

PROC = Path("/proc")
needs_proc = pytest.mark.skipif(sys.platform != "linux" or not PROC.is_dir(), reason="finds processes in /proc")


class Process(NamedTuple):
    """A living process.

    Attributes:
        pid: its id.
        parent: its parent's id.
        argv: its command line.
    """

    pid: int
    parent: int
    argv: tuple[str, ...]


def all_processes() -> dict[int, Process]:
    """Every process that lives now, zombies left out."""
    found: dict[int, Process] = {}
    for entry in PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            # The name in parentheses may hold anything, so count the fields from the last one.
            state, parent = (entry / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()[:2]
            argv = (entry / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")[:-1]
        except OSError:  # it ended while we looked
            continue
        if state not in "ZX":
            found[int(entry.name)] = Process(int(entry.name), int(parent), tuple(argv))
    return found


def encoders_under(pid: int) -> list[Process]:
    """The running ffmpeg processes below this one that encode."""
    processes = all_processes()
    return [
        process
        for process in processes.values()
        if "libx264" in process.argv and "ffmpeg" in Path(process.argv[0]).name and _is_below(process, pid, processes)
    ]


def _is_below(process: Process, ancestor: int, processes: dict[int, Process]) -> bool:
    seen: set[int] = set()
    while process.pid not in seen:
        if process.parent == ancestor:
            return True
        seen.add(process.pid)
        if process.parent not in processes:
            return False
        process = processes[process.parent]
    return False
