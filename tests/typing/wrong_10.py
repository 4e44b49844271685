"""A declared stage is checked like any other."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download, translate


@pipeline
def wired(url: str) -> None:
    """Wrong in one line."""
    translate(download("u"), language=3)  # ERROR
