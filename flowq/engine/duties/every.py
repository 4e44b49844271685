"""The one loop of the engine: does a duty at an interval until told to stop.

A duty is an object with one public coroutine, so that a test awaits `run_once()` and needs no loop and no clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from typing import Protocol

from flowq.errors import FlowqError

# A duty that fails is tried less and less often, but never less often than this (or than its interval): a lease has to
# be renewed in the very second in which the server is back.
BACKOFF_SECONDS_MAX = 5.0
_LOG_SECONDS_MIN = 1.0

_log = logging.getLogger(__name__)


class Duty(Protocol):
    """Something that is done again and again."""

    async def run_once(self) -> object:
        """Does it once. What it returns is ignored."""
        ...


async def run_every(interval_seconds: float, duty: Duty, *, stop: asyncio.Event, name: str) -> None:
    """Runs the duty every `interval_seconds`, counted from start to start, until `stop` is set; never twice at a time.

    The first run comes at a random moment of the first interval, so that workers that were started together do not
    call together for ever. A `FlowqError` or `OSError` is logged when it changes, not when it repeats, and the duty is
    tried again; any other exception is a bug and ends the loop.
    """
    trouble = _Trouble(name)
    wait_seconds = random.uniform(0, interval_seconds)
    while not await _is_set_within(wait_seconds, stop):
        began_at = time.monotonic()
        try:
            await duty.run_once()
        except (FlowqError, OSError) as error:
            trouble.happened(error)
            wait_seconds = trouble.backoff_seconds(interval_seconds)
        else:
            trouble.is_over()
            # A duty that takes longer than its interval must still leave the loop to others.
            wait_seconds = max(interval_seconds - (time.monotonic() - began_at), interval_seconds / 10)


async def _is_set_within(seconds: float, stop: asyncio.Event) -> bool:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()
    return stop.is_set()


class _Trouble:
    """The failures of a duty in a row, told once each, at most one line a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._failures = 0
        self._told = ""
        self._told_at = 0.0

    def happened(self, error: Exception) -> None:
        self._failures += 1
        text = f"{type(error).__name__}: {error}"
        if text != self._told and time.monotonic() - self._told_at >= _LOG_SECONDS_MIN:
            self._told = text
            self._told_at = time.monotonic()
            _log.warning("%s failed and is tried again: %s", self._name, text)

    def is_over(self) -> None:
        # Without a line of trouble (it came too soon after another) there is nothing to take back.
        if self._told:
            _log.info("%s works again after %d failure%s", self._name, self._failures, "s" * (self._failures != 1))
        self._failures = 0
        self._told = ""

    def backoff_seconds(self, interval_seconds: float) -> float:
        doubled = interval_seconds * 2.0 ** min(self._failures, 16)
        return random.uniform(0.5, 1) * min(doubled, max(interval_seconds, BACKOFF_SECONDS_MAX))
