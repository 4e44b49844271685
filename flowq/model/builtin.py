"""The stages that flowq brings itself, which every worker serves on a queue of their own."""

from __future__ import annotations

from typing import Final

BUILTIN_QUEUE: Final = "flowq"
SIGNAL_STAGE: Final = "flowq.signal"
