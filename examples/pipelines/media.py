"""What the example knows about ffmpeg: where it is, how long a file plays, how far an encode has come.

Used by `short_video.py` and `demo.py`; knows nothing of flows.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from flowq.errors import Unrecoverable

MEDIA_EXTRA = "pip install 'flowq-engine[media]'"
_PROBE_SECONDS_MAX = 30
_DURATION = re.compile(r"Duration: (\d+):(\d\d):(\d\d(?:\.\d+)?)")


def ffmpeg() -> str:
    """The path of ffmpeg: the one that `imageio-ffmpeg` ships, else the one on PATH.

    Raises:
        Unrecoverable: there is none; another attempt on this host would not find one either.
    """
    try:
        import imageio_ffmpeg

        return imageio_ffmpeg.get_ffmpeg_exe()
    except (ImportError, RuntimeError):  # not installed; or installed without a binary for this platform
        if found := shutil.which("ffmpeg"):
            return found
    raise Unrecoverable(f"there is no ffmpeg here: {MEDIA_EXTRA}, or put ffmpeg on PATH")


def seconds_of(path: Path) -> float:
    """How long the file plays.

    Raises:
        Unrecoverable: it is no audio or video file.
    """
    # The wheel ships no ffprobe. Copying zero seconds to nowhere makes ffmpeg print what it knows, and exit.
    argv = [ffmpeg(), "-hide_banner", "-nostdin", "-i", str(path), "-t", "0", "-f", "null", "-"]
    probe = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=_PROBE_SECONDS_MAX, check=False)
    if found := _DURATION.search(probe.stderr):
        hours, minutes, seconds = found.groups()
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    last_line = (probe.stderr.strip().splitlines() or ["it said nothing"])[-1]
    raise Unrecoverable(f"{path.name} is no audio or video that ffmpeg can read: {last_line}")


def ffmpeg_progress(seconds: float) -> Callable[[str], float | None]:
    """Reads the lines of `ffmpeg -progress pipe:1` and tells how much of `seconds` is done, 0…1.

    The function it returns answers None to lines that say nothing about it.
    """

    def fraction_done(line: str) -> float | None:
        name, _, value = line.strip().partition("=")
        if name == "progress" and value == "end":
            return 1.0
        # out_time_us is "N/A", or negative, until the first frame is out.
        if name == "out_time_us" and value.isdigit() and seconds > 0:
            return min(1.0, int(value) / (seconds * 1_000_000))
        return None

    return fraction_done


def captions_in(path: Path) -> str:
    """The captions inside a video, as WebVTT; empty if it has none."""
    argv = [ffmpeg(), "-v", "error", "-nostdin", "-i", str(path), "-map", "0:s:0", "-f", "webvtt", "-"]
    return subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=_PROBE_SECONDS_MAX, check=False).stdout
