"""A pipeline that returns something else than it declares."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import download


@pipeline
def sizes(url: str) -> list[int]:
    """Promises numbers."""
    return [download(url)]  # ERROR
