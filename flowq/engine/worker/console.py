"""How a worker logs on the terminal. Its children's lines stand among its own, so they look alike."""

from __future__ import annotations

import logging
import sys


def log_to_stderr(level: int) -> None:
    """Writes what this process logs from a level on to stderr, unless the program has said where it goes."""
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)-7s %(message)s", datefmt="%H:%M:%S", stream=sys.stderr)
