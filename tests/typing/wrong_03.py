"""An unknown keyword."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download, encode


@pipeline
def wired(url: str) -> None:
    """Wrong in one line."""
    encode(download("u"), hight=480)  # ERROR
