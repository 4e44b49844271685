"""A result wired to a parameter of another type."""

from __future__ import annotations

from flowq.pipeline import pipeline
from tests.typing.good import count, download, encode


@pipeline
def wired(url: str) -> None:
    """Wrong in one line."""
    encode(count(download("u")))  # ERROR
