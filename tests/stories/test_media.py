"""The example's helpers for ffmpeg's progress and for captions."""

from __future__ import annotations

import media
import pytest
import vtt

from tests.stories.conftest import CLIP, SPOKEN


@pytest.mark.parametrize(
    ("line", "fraction"),
    [
        ("out_time_us=5000000", 0.5),
        ("out_time_us=5000000\n", 0.5),
        ("out_time_us=99000000", 1.0),
        ("out_time_us=0", 0.0),
        ("progress=end", 1.0),
        ("progress=continue", None),
        ("out_time_us=N/A", None),
        ("out_time_us=-9223372036854775807", None),
        ("frame=12", None),
        ("", None),
    ],
)
def test_progress_is_read_from_the_lines_of_ffmpeg(line: str, fraction: float | None) -> None:
    assert media.ffmpeg_progress(10)(line) == fraction


def test_a_file_of_unknown_length_has_no_progress_but_an_end() -> None:
    progress = media.ffmpeg_progress(0)
    assert progress("out_time_us=5000000") is None
    assert progress("progress=end") == 1.0


def test_a_cue_has_its_times_and_one_line_of_text() -> None:
    assert vtt.cue(59.9996, 3661.25, " two\nlines --> here ") == "00:01:00.000 --> 01:01:01.250\ntwo lines → here\n\n"


def test_the_transcript_is_what_the_cues_say_in_order() -> None:
    text = vtt.HEADER + vtt.cue(0, 1, "Hello, and") + vtt.cue(1, 2, "welcome.")
    assert vtt.transcript(text) == "Hello, and welcome."
    assert vtt.transcript("WEBVTT\r\n\r\nNOTE a remark\r\n\r\n1\r\n00:01.000 --> 00:02.000\r\nHello\r\n") == "Hello"
    assert vtt.transcript("") == ""


def test_words_are_compared_without_case_and_punctuation() -> None:
    assert vtt.words("Hello, and WELCOME: it's 4 o’clock.") == ["hello", "and", "welcome", "it's", "4", "o’clock"]


def test_the_clip_is_small_and_its_words_are_known() -> None:
    assert CLIP.stat().st_size < 900_000
    assert len(vtt.words(SPOKEN.read_text("utf-8"))) > 30
