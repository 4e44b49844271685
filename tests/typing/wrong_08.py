"""A pipeline's argument of the wrong type."""

from __future__ import annotations

from tests.typing.good import short_video

short_video("u", height="720")  # ERROR
