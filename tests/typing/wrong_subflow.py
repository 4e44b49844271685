"""A nested pipeline gives the result of its flow, not the flow."""

from __future__ import annotations

from flowq.model.artifact import Artifact
from flowq.pipeline import pipeline
from tests.typing.good import encode, short_video


@pipeline
def outer(url: str) -> Artifact:
    """Wrong in one line."""
    return encode(short_video(url))  # ERROR
