"""What a worker asks of the server while there is nothing to do, and what it takes of its host."""

from __future__ import annotations

import time
from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.stand import Stand

_CONCURRENCY = 10
# By then the duties have begun that look once a minute, and connections of their own are open.
_SETTLING_SECONDS = 8.0


def idleness(stand: Stand) -> Iterator[Figure]:
    """Commands in a while, those in scripts too; all that happens once at the start is over by then."""
    stand.clear()
    with stand.driver() as driver:
        answer = driver.ask("idle", concurrency=_CONCURRENCY)
        time.sleep(min(_SETTLING_SECONDS, stand.sizes.idle_seconds))
        before, began = stand.look(), time.monotonic()
        time.sleep(stand.sizes.idle_seconds)
        cost, seconds = stand.look().since(before), time.monotonic() - began
        driver.ask("release")
    yield Figure("requests", (cost.reads - 1) / seconds, "requests/s")  # less that of the look
    yield Figure("commands, those in scripts too", (cost.commands + cost.scripts) / seconds, "commands/s")
    yield Figure("peak memory", answer["rss"] / 1e6, "MB")
