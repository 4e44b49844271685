"""A flow of a stage with an argument of the wrong type."""

from __future__ import annotations

from tests.typing.good import encode

encode.flow("u")  # ERROR
