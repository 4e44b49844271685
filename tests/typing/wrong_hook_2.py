"""A stage after the end that takes no end."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download, unpublish


@pipeline(finally_=unpublish)  # ERROR
def wired(url: str) -> None:
    """Wrong in one line."""
    download(url)
