"""An argument too many."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download, transcribe


@pipeline
def wired(url: str) -> None:
    """Wrong in one line."""
    transcribe(download("u"), 3)  # ERROR
