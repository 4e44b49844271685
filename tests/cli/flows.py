"""Pipelines for the tests of the command line, loaded by a real worker."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from flowq import Artifact, Backoff, context, pipeline, stage

HOSTILE = "".join(map(chr, range(0xA0))) + "\u202e[/foo][link=http://x]\x1b]8;;http://x\x07"


@stage
async def measure(text: str, times: int = 1) -> int:
    context().progress(0.5, "counting")
    return len(text) * times


@stage
async def write(length: int) -> Artifact:
    async with context().new_artifact("length.txt") as sink:
        await sink.write(str(length).encode())
    return sink.artifact


@pipeline
def simple(text: str, times: int = 1) -> Artifact:
    return write(measure(text, times))


@stage(attempts=2, backoff=Backoff.none())
async def refuse(text: str) -> int:
    raise ValueError(HOSTILE)


@pipeline
def failing(text: str = "x") -> Artifact:
    return write(refuse(text))


@stage
async def wait_for_file(path: str) -> str:
    context().progress(0.25, "waiting for the file")
    while not await asyncio.to_thread(os.path.exists, path):  # noqa: ASYNC110  another process makes the file
        await asyncio.sleep(0.02)
    return await asyncio.to_thread(Path(path).read_text)


@pipeline
def waiting(path: str) -> str:
    return wait_for_file(path)


@stage(queue="nobody-serves-this")
async def orphan() -> int:
    return 1


@pipeline
def stuck() -> int:
    return orphan()
