"""A spawned stage gets what its function takes."""

from __future__ import annotations

from flowq.engine.run.context import context
from flowq.model.artifact import Artifact
from flowq.pipeline import stage
from tests.typing.good import encode


@stage
async def spawning(source: Artifact) -> Artifact:
    """Wrong in one line."""
    return await context().spawn(encode, source, "720")  # ERROR
