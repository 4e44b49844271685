"""The list of a map in the place of one result."""

from __future__ import annotations

from flowq import Artifact, pipeline
from tests.typing.good import transcribe


@pipeline
def wired(source: Artifact) -> Artifact:
    """Wrong in one line."""
    return transcribe.map([source])  # ERROR
