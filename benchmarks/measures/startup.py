"""How long it takes until anything can happen: the import, and flowq's commands as somebody at a terminal sees them."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence

from benchmarks.contestants import Contestant
from benchmarks.figures import Figure
from benchmarks.stand import Stand


def startup(stand: Stand) -> Iterator[Figure]:
    """Of the whole process; what Python itself takes of it stands beside it."""
    contestant = stand.contestant
    if contestant.is_node or contestant.fsync != "none" or contestant.name == "floor":
        return
    python = contestant.python(stand.cache)
    yield Figure("python, nothing imported", _milliseconds(stand, [python, "-c", "pass"]), "ms")
    yield Figure("import", _milliseconds(stand, [python, "-c", f"import {_module(contestant)}"]), "ms")
    if not contestant.packages:
        yield Figure("flowq --help", _milliseconds(stand, [python, "-m", "flowq", "--help"]), "ms")
        stand.clear()
        with stand.driver() as driver:
            driver.ask("submit", flows=1)
        yield Figure("flowq inspect latest", _milliseconds(stand, [python, "-m", "flowq", "inspect", "latest"]), "ms")


def _module(contestant: Contestant) -> str:
    return re.split(r"\W", contestant.packages[0])[0] if contestant.packages else "flowq"


def _milliseconds(stand: Stand, argv: Sequence[str]) -> float:
    environment = {
        **os.environ, **stand.contestant.environment(stand.cache),
        "FLOWQ_URL": stand.server.url, "FLOWQ_NAMESPACE": stand.namespace,
    }  # fmt: skip
    took: list[float] = []
    for _ in range(1 + stand.sizes.starts):
        began = time.perf_counter()
        subprocess.run(argv, env=environment, cwd="/", stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, check=True)
        took.append(1000 * (time.perf_counter() - began))
    return statistics.median(took[1:])  # the first fills the caches of the disk
