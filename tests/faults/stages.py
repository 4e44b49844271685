"""Stages that misbehave, each in its own way. What runs is noted in a file outside the server: `stage flow pid start|end`."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from pathlib import Path

from flowq import Backoff, context, pipeline, stage


def note(word: str) -> None:
    """One short appended line: the kernel keeps it whole."""
    current = context()
    with open(os.environ["FLOWQ_TEST_JOURNAL"], "a") as journal:
        journal.write(f"{current.stage} {current.flow_id} {os.getpid()} {word} {time.time():.3f}\n")


@stage
def work(seconds: float) -> int:
    """Works for so long, in a thread."""
    note("start")
    end = time.monotonic() + seconds
    while time.monotonic() < end and not context().cancelled:
        time.sleep(0.02)
    note("end")
    return context().attempt


@stage
async def until_file(path: str) -> int:
    """Works until a file exists."""
    note("start")
    while not Path(path).exists():  # noqa: ASYNC110, ASYNC240  another process makes the file
        await asyncio.sleep(0.05)
    note("end")
    return context().attempt


@stage
async def increment(number: int) -> int:
    """Takes no time."""
    note("start")
    return number + 1


@pipeline
def three(number: int) -> int:
    """A chain."""
    return increment(increment(increment(number)))


@stage(attempts=1)
async def poison_exit() -> None:
    """Ends its process as if all were well."""
    note("start")
    os._exit(0)


@stage(attempts=1)
def poison_signal() -> None:
    """Ends its process by a signal."""
    note("start")
    os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(60)


@stage(attempts=1, timeout="1s", backoff=Backoff.none(), isolation="process")
def deaf() -> None:
    """Does not hear that its time is up."""
    note("start")
    time.sleep(600)


@stage(attempts=1, timeout="1s", backoff=Backoff.none())
def hog() -> None:
    """Holds the interpreter's lock, so that nothing else in its process can run."""
    note("start")
    re.match(r"(a+)+$", "a" * 40 + "b")


@stage(isolation="process")
def quick_alone() -> str:
    """Takes no time, in a process of its own."""
    return "done"


@stage(isolation="process")
async def clutching() -> None:
    """Does not let itself be cancelled."""
    note("start")
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            note("told")


@stage(isolation="process")
def unlistening() -> None:
    """Does not look whether it was cancelled."""
    note("start")
    time.sleep(600)


@stage
def clinging() -> None:
    """Runs a program that does not end when it is asked to."""
    note("start")
    context().run(["sh", "-c", "trap '' TERM; echo $$ > \"$FLOWQ_TEST_JOURNAL.pid\"; while :; do sleep 1; done"])


@stage(stall="1s", attempts=2, backoff=Backoff.none(), isolation="process")
def mute() -> int:
    """Holds the interpreter's lock and tells no progress, the first time."""
    note("start")
    if context().attempt == 1:
        re.match(r"(a+)+$", "a" * 40 + "b")
    return context().attempt


@stage
async def approved() -> int:
    """Waits for a signal."""
    note("start")
    return await context().wait_for_signal("approved", int)


@stage(isolation="process")
async def approved_alone() -> int:
    """The same in a process of its own."""
    note("start")
    return await context().wait_for_signal("approved", int)


@stage
async def spawns(path: str) -> int:
    """Waits for a flow beneath."""
    note("start")
    return 100 + await context().spawn(until_file, path)
