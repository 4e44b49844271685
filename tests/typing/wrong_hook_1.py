"""A compensation that wants more than one argument."""

from __future__ import annotations

from flowq import Artifact, stage
from tests.typing.good import finalize


@stage(compensate=finalize)  # ERROR
def publish(video: Artifact) -> Artifact:
    """Wrong in one line."""
    return video
