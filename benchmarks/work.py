"""What is measured: a chain of four stages that do nothing, with one 60-byte key handed on from stage to stage."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from flowq import pipeline, stage

STAGES = 4
KEY = "s3://media/flows/0000000000000000/source/1-00000000/video.mp4"

_when_done: list[Callable[[], None]] = []


@contextlib.contextmanager
def when_done(callback: Callable[[], None]) -> Iterator[None]:
    """Calls back in the worker whenever the last stage of a chain runs, until the block ends."""
    _when_done.append(callback)
    try:
        yield
    finally:
        _when_done.remove(callback)


@stage(queue="bench")
async def bench_first(key: str) -> str:
    """Hands the key on."""
    return key


@stage(queue="bench")
async def bench_second(key: str) -> str:
    """Hands the key on."""
    return key


@stage(queue="bench")
async def bench_third(key: str) -> str:
    """Hands the key on."""
    return key


@stage(queue="bench")
async def bench_fourth(key: str) -> str:
    """Hands the key on."""
    for callback in _when_done:
        callback()
    return key


@pipeline
def chain(key: str) -> str:
    """Four stages, one after the other."""
    return bench_fourth(bench_third(bench_second(bench_first(key))))
