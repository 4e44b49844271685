"""Elements of another type than the stage takes."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import count


@pipeline
def wired(url: str) -> list[int]:
    """Wrong in one line."""
    return count.map([url])  # ERROR
