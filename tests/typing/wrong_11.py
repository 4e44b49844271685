"""An option that is none."""

from __future__ import annotations

from tests.typing.good import encode

encode.with_options(attempts="3")  # ERROR
