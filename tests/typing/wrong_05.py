"""A field that the result does not declare."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download


@pipeline
def wired(url: str) -> None:
    """Wrong in one line."""
    download("u").sise  # ERROR
