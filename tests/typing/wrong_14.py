"""A result that may be None because its stage may be skipped."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download, encode, transcribe


@pipeline
def wired(url: str, wanted: bool) -> None:
    """Wrong in one line."""
    encode(transcribe.when(wanted)(download(url)))  # ERROR
