"""A failure that may come where none is expected."""

from __future__ import annotations

from flowq import tolerate
from flowq.pipeline import pipeline
from tests.typing.good import download, transcribe


@pipeline
def wired(url: str) -> None:
    """Wrong in one line."""
    transcribe(tolerate(download(url)))  # ERROR
