"""A signal's value is of its type, or the default's."""

from __future__ import annotations

from flowq.engine.run.context import context
from flowq.pipeline import stage


@stage
async def asking() -> str:
    """Wrong in one line."""
    return await context().wait_for_signal("name", str, "1h", default=None)  # ERROR
