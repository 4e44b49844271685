"""Too many names for an unpacked tuple."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download, split


@pipeline
def three(url: str) -> None:
    """Takes three from two."""
    first, frames, more = split(download(url))  # ERROR
