"""A missing argument."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download, finalize


@pipeline
def wired(url: str) -> None:
    """Wrong in one line."""
    finalize(download("u"))  # ERROR
