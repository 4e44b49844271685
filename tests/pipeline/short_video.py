"""The pipeline of the documentation, without its work: what the tests of this folder wire, check and submit."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple, NotRequired, TypedDict

import msgspec

from flowq.model.artifact import Artifact
from flowq.model.retry import Backoff
from flowq.pipeline import pipeline, stage


class Published(msgspec.Struct, rename="camel"):
    video: Artifact
    captions: Artifact | None = None
    seconds: float = 0.0


@dataclasses.dataclass
class Probe:
    width: int
    height: int
    audio: Published | None = None


class Box(NamedTuple):
    left: int
    right: int


class Row(msgspec.Struct, array_like=True, tag="row"):
    width: int
    height: int


class Sparse(msgspec.Struct, omit_defaults=True):
    name: str
    size: int = 0


class Labels(TypedDict):
    title: str
    language: NotRequired[str]


@stage(queue="network", attempts=5, backoff=Backoff.exponential("2s", max="5m"), timeout="10m")
async def download(url: str) -> Artifact:
    return Artifact(f"downloaded/{url}")


@stage(queue="gpu", attempts=2, timeout="45m", isolation="process")
def transcribe(source: Artifact) -> Artifact:
    return Artifact("captions.vtt")


@stage(queue="cpu", timeout="1h")
def encode(source: Artifact, height: int = 720) -> Artifact:
    return Artifact(f"{height}.mp4")


@stage
def finalize(video: Artifact, captions: Artifact) -> Published:
    return Published(video, captions)


@stage
def probe(source: Artifact) -> Probe:
    return Probe(1, 2)


@stage
def split(source: Artifact) -> tuple[Artifact, int]:
    return source, 1


@stage
def box(source: Artifact) -> Box:
    return Box(1, 2)


@stage
def row(source: Artifact) -> Row:
    return Row(1, 2)


@stage
def sparse(source: Artifact) -> Sparse:
    return Sparse("a")


@stage
def labels(source: Artifact) -> Labels:
    return {"title": "a"}


@stage
def maybe(source: Artifact) -> Published | None:
    return None


@stage
def parts(source: Artifact) -> list[Artifact]:
    return [source]


@stage
def anything(source):  # type: ignore[no-untyped-def]
    return source


@stage
def join(sources: list[Artifact], names: dict[str, str] | None = None) -> Artifact:
    return sources[0]


@stage
def publish(published: Published) -> None:
    return None


@stage
def store(value: object) -> None:
    return None


@stage
def note(text: str) -> None:
    return None


@pipeline
def short_video(url: str, height: int = 720) -> Published:
    source = download(url)
    return finalize(encode(source, height=height), transcribe(source))
