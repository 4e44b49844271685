"""Tests run side by side; those marked `alone` assert seconds, so nothing else of the run goes on meanwhile.

The conftest of all tests loads it. Who waits for the machine does so before its own timeout begins to count.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """They come last: nobody has to wait for them, and they for few."""
    items.sort(key=_is_alone)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """Runs the test when it may run."""
    own: str | None = item.config.getoption("basetemp")
    if own is None or not hasattr(item.config, "workerinput"):
        return (yield)
    # What all processes of this run share, and nobody else has.
    shared = Path(own).parent
    kind = fcntl.LOCK_EX if _is_alone(item) else fcntl.LOCK_SH
    # Who wants the machine holds the door, or those that share it would pass by for ever.
    with _locked(shared / "door", fcntl.LOCK_EX):
        machine = contextlib.ExitStack()
        machine.enter_context(_locked(shared / "machine", kind))
    with machine:
        return (yield)


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


@contextlib.contextmanager
def _locked(path: Path, kind: int) -> Iterator[None]:
    with open(path, "w") as file:
        fcntl.flock(file, kind)  # given up when the file is closed: however this process ends
        yield
