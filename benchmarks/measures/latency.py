"""One chain after the other on a worker that has nothing else to do: what somebody waits who waits for one flow."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.figures import Figure, percentile
from benchmarks.stand import Stand

_CONCURRENCY = 10


def latency(stand: Stand) -> Iterator[Figure]:
    """Median and 99th percentile. The slow ones get fewer runs, but never so few that there is no 99th percentile."""
    stand.clear()
    runs = max(min(100, stand.sizes.alone), stand.share(stand.sizes.alone))
    with stand.driver() as driver:
        milliseconds = driver.ask("alone", runs=runs, concurrency=_CONCURRENCY)["milliseconds"]
    yield Figure("p50", statistics.median(milliseconds), "ms")
    yield Figure("p99", percentile(milliseconds, 0.99), "ms")
