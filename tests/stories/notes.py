"""A pipeline so small that a story can run dozens of it."""

from __future__ import annotations

from flowq import pipeline, stage


@stage(queue="notes")
def take(text: str) -> str:
    """Returns its input."""
    return text


@stage(queue="notes")
def keep(text: str) -> str:
    """Returns its input, marked as kept."""
    return f"kept: {text}"


@pipeline
def note(text: str) -> str:
    """Two stages, one after the other."""
    return keep(take(text))
