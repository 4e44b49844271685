"""A pipeline whose wiring is right: passes pyright strict and mypy --strict without a note."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, assert_type

import msgspec

from flowq import (
    Artifact,
    Backoff,
    FlowHandle,
    FlowProducer,
    FlowSpec,
    Node,
    StageFailure,
    context,
    declare,
    pipeline,
    resource,
    signal,
    stage,
    succeeded,
    tolerate,
)
from flowq.hooks import FlowEnd
from flowq.pipeline import Stage, subflow, to_spec


class WhisperModel:
    """Stands for something expensive."""

    def transcribe(self, path: str) -> str:
        """What is said in the file."""
        return path


class Published(msgspec.Struct):
    """What the pipeline makes."""

    video: Artifact
    captions: Artifact
    seconds: float = 0.0


@stage(queue="network", attempts=5, backoff=Backoff.exponential("2s", max="5m"), timeout="10m")
async def download(url: str) -> Artifact:
    """An async function of an Artifact is a stage of an Artifact."""
    async with context().new_artifact("source.mp4") as sink:
        await sink.write(url.encode())
        context().progress(sink.size / 100, "downloading")
    return sink.artifact


@resource(scope="process")
def whisper() -> WhisperModel:
    """Built once."""
    return WhisperModel()


@resource
async def database() -> WhisperModel:
    """Built once, in the loop."""
    return WhisperModel()


@stage(queue="gpu", attempts=2, timeout="45m", isolation="process", cache="30d")
def transcribe(source: Artifact) -> Artifact:
    """Uses a resource."""
    with source.local() as path, context().new_artifact("captions.vtt") as sink:
        sink.write(whisper().transcribe(str(path)).encode())
    return sink.artifact


@stage(queue="cpu", timeout="1h")
def encode(source: Artifact, height: int = 720) -> Artifact:
    """Has a default."""
    with source.local() as path, context().new_artifact("video.mp4") as sink:
        context().run(["ffmpeg", "-i", str(path), "-vf", f"scale=-2:{height}", str(sink.path)], stall="90s")
    return sink.artifact


@stage
def untyped(source: Artifact) -> Any:
    """Says nothing about its result."""
    return source


@stage
async def count(source: Artifact) -> int:
    """A bare decorator on an async function."""
    return source.size + len((await database()).transcribe("a"))


@stage
def split(source: Artifact) -> tuple[Artifact, int]:
    """Gives two things."""
    return source, 1


@stage
def finalize(video: Artifact, captions: Artifact) -> Published:
    """Takes two things."""
    return Published(video, captions)


@stage
def join(parts: list[Artifact], names: dict[str, str] | None = None) -> Artifact:
    """Takes a list."""
    return parts[0]


def translate_signature(captions: Artifact, language: str = "en") -> Artifact:
    """What the stage `translate`, whose code is elsewhere, takes and gives."""
    raise NotImplementedError


translate = declare("translate", translate_signature, queue="gpu")


@pipeline
def short_video(url: str, height: int = 720) -> Published:
    """The documented pipeline."""
    source = download(url)
    return finalize(encode(source, height=height), transcribe(source))


@pipeline(name="everything")
def everything(url: str) -> dict[str, list[Artifact] | float]:
    """Fields, unpacking, options, order, a declared stage."""
    source = download(url)
    first, frames = split(source)
    small = encode.with_options(name="encode-480", queue="slow", priority=1, after=[frames], cache=False)(first, 480)
    published = finalize(small, translate(transcribe(source), language="de"))
    parts = [first, small, published.video, untyped(first)]
    return {"all": [join(parts, {"a": "b"})], "seconds": published.seconds}


@stage
def is_spoken(source: Artifact) -> bool:
    """A condition."""
    return source.size > 0


@stage
def judge(video: Artifact | StageFailure, captions: Artifact | None) -> bool:
    """Bears a failure, and that there are no captions."""
    return isinstance(video, Artifact) and captions is not None


@pipeline(fail_fast=True)
def forgiving(url: str) -> tuple[bool, Artifact]:
    """Failures as values, lists of what succeeded, conditions, all typed."""
    source = download(url)
    captions = transcribe.when(is_spoken(source))(source)
    assert_type(captions, Artifact | None)
    assert_type(tolerate(encode(source)), Artifact | StageFailure)
    good = judge(tolerate(encode(source)), captions)
    return good, join(succeeded([encode(source, height) for height in (360, 720)]))


@stage
def cut(source: Artifact) -> list[Artifact]:
    """Gives a list."""
    return [source]


@pipeline
def mapped(url: str) -> list[int]:
    """A stage for each element of a list, with its other arguments, as a list, typed."""
    encoded = encode.with_options(at_once=4, need="any").map(cut(download(url)), height=480)
    assert_type(encoded, list[Artifact])
    assert_type(succeeded(encoded), list[Artifact])
    assert_type(tolerate(encoded), list[Artifact] | StageFailure)
    return count.map(encode.map(encoded, 240))


@stage
async def unpublish(published: Published | None, reason: str = "") -> None:
    """Undoes what gives a Published, or more."""


@stage
def forget(whatever: object) -> None:
    """Undoes anything."""


@stage(compensate=unpublish, attempts=3)
def publish(video: Artifact) -> Published:
    """Is undone by what takes more than it gives."""
    return Published(video, video)


@stage(compensate=forget)
async def announce(published: Published) -> int:
    """An async function is undone by what takes its result."""
    return 1


@stage
async def clean_up(end: FlowEnd) -> None:
    """Runs after every end."""


@pipeline(finally_=clean_up)
def announced(url: str) -> int:
    """With hooks; stages that can be undone keep their types."""
    published = publish(download(url))
    assert_type(published, Published)
    assert_type(announce(published), int)
    return announce(published)


@stage
async def waits(source: Artifact) -> Artifact:
    """Signals, and flows beneath."""
    assert_type(await context().wait_for_signal("height", int), int)
    assert_type(await context().wait_for_signal("height", int, "1h", default=None), int | None)
    assert_type(await context().spawn(encode, source, height=480), Artifact)
    assert_type(await context().spawn(short_video, "https://…"), Published)
    assert_type(await context().spawn(short_video("https://…"), key="one"), Published)
    return await context().spawn(encode, source, key="another")


@pipeline
def nesting(url: str) -> Artifact:
    """A pipeline and an approval inside."""
    published = subflow(short_video(url))
    assert_type(published, Published)
    assert_type(signal("approved", Published), Published)
    assert_type(signal("approved", bool, timeout="1h", default=None), bool | None)
    return waits(published.video)


@stage(attempts=3, retry_on=(ConnectionError, TimeoutError), unrecoverable=ConnectionAbortedError)
def fetched(url: str) -> int:
    """Types of errors, alone or in a tuple."""
    return len(url)


def submit() -> None:
    """What callers get."""
    assert_type(short_video("https://…"), FlowSpec[Published])
    assert_type(download.flow("https://…"), FlowSpec[Artifact])
    assert_type(count.flow(Artifact("a")), FlowSpec[int])
    assert_type(to_spec(short_video("https://…")), FlowSpec[Published])
    assert_type(to_spec(Node("a", data={"b": Node("c")}, children=[{"name": "d"}])), FlowSpec[Any])
    assert_type(to_spec({"name": "a"}), FlowSpec[Any])
    assert_type(whisper(), WhisperModel)


async def submit_many(producer: FlowProducer) -> None:
    """Handles are typed by what the iterable gives."""
    async for flow in producer.add_many(short_video(url) for url in ("https://…",)):
        assert_type(flow, FlowHandle[Published])
    assert_type(await producer.add_bulk([short_video("https://…")]), Sequence[FlowHandle[Published]])


def typed_by_hand(one: Stage[[Artifact], Artifact]) -> Artifact:
    """Stages can be parameters."""
    return one(Artifact("a"))


typed_by_hand(transcribe)
