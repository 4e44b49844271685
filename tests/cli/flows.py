"""Pipelines for the tests of the command line, loaded by a real worker."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

from flowq import Artifact, Backoff, StageFailure, Unrecoverable, context, pipeline, signal, stage, tolerate
from flowq.hooks import FlowEnd

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


@stage(cache="1d")
async def spell(text: str) -> str:
    return " ".join(text)


@pipeline
def spelled(text: str) -> Artifact:
    return write(measure(spell(text)))


@stage(attempts=2, backoff=Backoff.none())
async def refuse(text: str) -> int:
    raise ValueError(HOSTILE)


@pipeline
def failing(text: str = "x") -> Artifact:
    return write(refuse(text))


@stage
async def wait_at_gate(path: str) -> str:
    """Returns what the test says that keeps the gate: see `tests.cli.gate`."""
    reader, writer = await asyncio.open_unix_connection(path)
    try:
        context().progress(0.25, "waiting at the gate")
        return (await reader.read()).decode()
    finally:
        writer.close()


@pipeline
def waiting(path: str) -> str:
    return wait_at_gate(path)


@stage(attempts=3, backoff=Backoff.none())
async def watch_video(name: str) -> str:
    if context().attempt == 1:
        raise ConnectionError("try again")
    raise Unrecoverable("no video stream")


@pipeline
def hopeless(name: str = "x") -> Artifact:
    return write(measure(watch_video(name)))


@stage
async def write_both() -> int:
    for name in ("video.mp4", "captions.vtt"):
        async with context().new_artifact(name) as sink:
            await sink.write(b"x")
    return 2


@pipeline
def several() -> int:
    return write_both()


@stage(queue="nobody-serves-this")
async def orphan() -> int:
    return 1


@pipeline
def stuck() -> int:
    return orphan()


@stage
async def assess(name: str | StageFailure, length: int | None) -> str:
    return "assessed"


@pipeline
def forgiving(name: str = "x") -> str:
    return assess(tolerate(watch_video(name)), measure.when(False)(name))


@stage
async def talk(name: str) -> str:
    logging.getLogger("talk").warning("talking to %s\x1b[31m", name)
    context().usage(tokens=7)
    return name


@pipeline
def talking(name: str) -> str:
    return talk(name)


@stage
async def cut_up(chunks: int) -> list[int]:
    return list(range(chunks))


@stage
async def convert(chunk: int, mended: str) -> int:
    """Every twentieth chunk is broken until there is a file of this name."""
    if chunk % 20 == 3 and not await asyncio.to_thread(Path(mended).exists):
        raise Unrecoverable(f"chunk {chunk} is broken")
    return chunk


@stage
async def total_of(chunks: list[int]) -> int:
    return sum(chunks)


@pipeline
def chunked(chunks: int, mended: str) -> int:
    return total_of(convert.map(cut_up(chunks), mended=mended))


@stage
def take_back(path: str) -> None:
    """Fails until its file is there."""
    if not Path(path).exists():
        raise Unrecoverable("it can't be taken back yet")


@stage(compensate=take_back)
async def lay_out(path: str) -> str:
    """Can be undone."""
    return path


@stage
async def sweep_up(end: FlowEnd) -> None:
    """Runs after the end."""


@pipeline(finally_=sweep_up)
def tidied(path: str) -> int:
    """Fails, and is undone."""
    return refuse.with_options(after=[lay_out(path)])("x")


@stage(queue="nobody-serves-this")
async def sweep_never(end: FlowEnd) -> None:
    """Would run after the end."""


@pipeline(finally_=sweep_never)
def unswept(text: str) -> int:
    """Its hooks don't end."""
    return measure(text)


@stage
async def publish_approved(approval: dict[str, str]) -> str:
    return f"published by {approval['by']}"


@pipeline
def approving() -> str:
    return publish_approved(signal("approved", dict[str, str]))


@stage
def label(title: str | None = None, height: int | None = None) -> list[str | int | None]:
    return [title, height]


@pipeline
def labelled() -> list[str | int | None]:
    return label()


@stage
def tagged(number: str | None, height: int | None = None) -> list[str | int | None]:
    return [number, height]


@pipeline
def labelled_each(numbers: list[str | None]) -> list[list[str | int | None]]:
    return tagged.map(numbers)
