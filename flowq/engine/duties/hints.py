"""What the server says of a partition in passing, once a second and beside a worker's exchange: whether there is something to do
for duties. Who hears that need not ask; who does not, asks by itself, as if there were no hints.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence

from flowq.engine.duties.every import Duty
from flowq.model.exchanged import House

# How often a conversation has a look taken. It polls once a second: each poll shall carry one.
_LOOK_SECONDS = 0.9
# What was said longer ago does not count.
_STALE_SECONDS = 2.0
# A duty is done so often at least, whatever is said.
AT_LEAST_SECONDS = 60.0


class Hints:
    """What was last said of each partition; told by the conversations of one process, heard by its duties.

    Args:
        partitions: of which something is to be heard.
        on_told: called with what this process was told, to pass it on to others.
    """

    def __init__(self, partitions: Sequence[str], on_told: Callable[[str, House], None] | None = None) -> None:
        self._partitions = partitions
        self._on_told = on_told
        self._heard: dict[str, tuple[float, House]] = {}
        self._news = asyncio.Event()

    @property
    def houses(self) -> list[House]:
        """What was last said, in the order of the partitions."""
        return [self._heard[tag][1] for tag in self._partitions if tag in self._heard]

    def is_due(self, tag: str) -> bool:
        """Whether the server is to have a look for the duties with the next exchange."""
        return tag not in self._heard or time.monotonic() - self._heard[tag][0] >= _LOOK_SECONDS

    def tell(self, tag: str, house: House | None) -> None:
        """Says what was found; None: nobody has looked."""
        if house is not None:
            self.hear(tag, house)
            if self._on_told is not None:
                self._on_told(tag, house)

    def hear(self, tag: str, house: House) -> None:
        """Takes in what was said to this process or another one of the same worker."""
        self._heard[tag] = time.monotonic(), house
        self._news.set()

    async def until(self, is_needed: Callable[[], bool]) -> bool:
        """Waits until it is so, by what is said; returns False where not enough is heard, or nothing was for long."""
        over_at = time.monotonic() + AT_LEAST_SECONDS
        while self._stale_in > 0 and time.monotonic() < over_at:
            if is_needed():
                return True
            self._news.clear()
            # Not wait_for: before Python 3.12 it swallows a cancellation that comes in the same moment as the event.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.01, min(self._stale_in, over_at - time.monotonic()))):
                    await self._news.wait()
        return False

    @property
    def _stale_in(self) -> float:
        heard_at = [self._heard[tag][0] if tag in self._heard else 0.0 for tag in self._partitions]
        return min(heard_at) + _STALE_SECONDS - time.monotonic()


class WhenNeeded:
    """A duty that waits until it is said that there is something to do; see `Hints.until`.

    Args:
        duty: what is done.
        hints: what is said.
        is_needed: whether that means something for the duty, of one partition.
        spread_seconds: of many processes that hear it at once, each begins at a random moment of so long.
    """

    def __init__(self, duty: Duty, hints: Hints, is_needed: Callable[[House], bool], spread_seconds: float = 0.0) -> None:
        self._duty = duty
        self._hints = hints
        self._is_needed = is_needed
        self._spread_seconds = spread_seconds

    async def run_once(self) -> None:
        """Does it once, when it is needed."""
        if await self._hints.until(lambda: any(map(self._is_needed, self._hints.houses))) and self._spread_seconds:
            await asyncio.sleep(random.uniform(0, self._spread_seconds))
        await self._duty.run_once()
