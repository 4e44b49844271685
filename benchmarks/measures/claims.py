"""What it costs to claim one stage while many others wait before it: it should not depend on how many."""

from __future__ import annotations

import statistics
from collections.abc import Iterator

from benchmarks.figures import Figure, percentile
from benchmarks.stand import Stand


def claims(stand: Stand) -> Iterator[Figure]:
    """Behind few and behind thousands."""
    for backlog in stand.sizes.backlogs:
        yield from _claims(stand, backlog)


def claims_behind_many(stand: Stand) -> Iterator[Figure]:
    """Behind a million, and what one of them weighs; beside it, in the same minutes, behind none."""
    behind_none, behind_many = list(_claims(stand, 0)), list(_claims(stand, stand.sizes.great_backlog))
    yield from (*behind_none, *behind_many)
    yield Figure("p99, times of that behind none", behind_many[1].value / behind_none[1].value, "×")


def _claims(stand: Stand, backlog: int) -> Iterator[Figure]:
    stand.clear()
    with stand.driver() as driver:
        empty = stand.look().dataset
        if backlog:
            driver.ask("submit", shape="single", flows=backlog)
        full = stand.look().dataset
        milliseconds = driver.ask("claims", samples=stand.sizes.claims)["milliseconds"]
    yield Figure(f"p50 behind {backlog:,}", statistics.median(milliseconds), "ms")
    yield Figure(f"p99 behind {backlog:,}", percentile(milliseconds, 0.99), "ms")
    if backlog:
        yield Figure(f"memory of each of {backlog:,}", (full - empty) / backlog, "bytes/flow")
