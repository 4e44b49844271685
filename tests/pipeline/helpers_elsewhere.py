"""Stages and helpers that pipelines of test_reach.py reach through this module."""

from __future__ import annotations

from typing import Any

from tests.pipeline import short_video
from tests.pipeline.short_video import box, encode, split


def helper(source: Any) -> Any:
    return [inner(source) for _ in range(2)]


def inner(source: Any) -> Any:
    return split(source) if source else helper(source)


TABLE = {"encode": encode, "more": [box]}
modules = short_video
