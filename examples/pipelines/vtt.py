"""WebVTT captions, as far as the example needs them: cues are written by `transcribe`, words are read by `finalize`.

Pure text in, text out.
"""

from __future__ import annotations

import re

HEADER = "WEBVTT\n\n"


def cue(start: float, end: float, text: str) -> str:
    """One caption: `text` is shown from `start` to `end`, both in seconds."""
    # "-->" ends a cue's text early in every player; a speaker can't say it, but a model can write it.
    line = " ".join(text.split()).replace("-->", "→")
    return f"{_timestamp(start)} --> {_timestamp(end)}\n{line}\n\n"


def transcript(vtt: str) -> str:
    """All that is said in the captions, in order, on one line."""
    blocks = re.split(r"\n\s*\n", vtt.replace("\r\n", "\n"))
    said: list[str] = []
    for block in blocks:
        lines = block.strip().splitlines()
        timing = next((position for position, line in enumerate(lines) if "-->" in line), None)
        if timing is not None:
            said += lines[timing + 1 :]
    return " ".join(" ".join(said).split())


def words(text: str) -> list[str]:
    """The words of a text in order, lower case, without punctuation: what two transcripts are compared by."""
    return re.findall(r"[^\W_]+(?:['’][^\W_]+)*", text.lower())


def _timestamp(seconds: float) -> str:
    milliseconds = max(0, round(seconds * 1000))
    minutes, rest = divmod(milliseconds, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}.{rest % 1000:03}"
