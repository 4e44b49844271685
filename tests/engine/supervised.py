"""Stages for the tests of the supervisor and its children, which get a copy of this module on disk and may edit it."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from flowq import context, stage
from flowq.engine.worker.supervisor import WorkerOptions
from tests.engine.waiting import in_the_end

SOURCE = Path(__file__).read_text("utf-8")


@stage
async def supervised_quick() -> str:
    """Takes no time."""
    return "done"


@stage
async def supervised_while_locked(path: str) -> int:
    """Makes `path.begun`, and runs for as long as the test has locked `path`."""
    Path(path + ".begun").touch()  # noqa: ASYNC240
    with open(path, "rb") as file:  # noqa: ASYNC230
        await asyncio.to_thread(fcntl.flock, file, fcntl.LOCK_SH)
    return context().attempt


@stage
async def supervised_in_a_thread(path: str) -> None:
    """Makes `path.begun`, and waits for a thread of the loop that never ends."""
    Path(path + ".begun").touch()  # noqa: ASYNC240
    await asyncio.to_thread(threading.Event().wait)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[str]:
    """Keeps `supervised_while_locked` running until the block ends."""
    with open(path, "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield str(path)


async def begun(path: Path) -> None:
    """Waits until one of the stages above has made `path.begun`."""

    async def is_there() -> bool:
        return path.with_name(path.name + ".begun").exists()

    await in_the_end(is_there)


def written(directory: Path, source: str = SOURCE) -> Path:
    """The module, in this directory."""
    module = directory / "stages_of_test.py"
    module.write_text(source)
    return module


def options_for(module: Path, **options: Any) -> WorkerOptions:
    """A worker of this module with one child beside the one for suspects; it drains at once."""
    return WorkerOptions(**{"modules": (str(module),), "concurrency": 5, "alone": 1, "drain_timeout_ms": 0, **options})
