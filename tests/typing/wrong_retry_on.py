"""Errors to retry on by their names, as text."""

from __future__ import annotations

from flowq import stage


@stage(retry_on="ConnectionError")  # ERROR
def fetch(url: str) -> int:
    """Wrong in one line."""
    return len(url)
