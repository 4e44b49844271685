"""What a chain of four weighs on the server, indexes included, by `used_memory_dataset`: waiting, running, completed and kept."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.figures import Figure
from benchmarks.stand import Stand

_CONCURRENCY = 50
_WARM_FLOWS = 50


def weight(stand: Stand) -> Iterator[Figure]:
    """All that is there once, such as plans and scripts, is there before. As many flows for all: bytes of few are noise."""
    stand.clear()
    flows = stand.sizes.weighed
    with stand.driver() as driver:
        for flows_now in (_WARM_FLOWS, flows):
            work = {"shape": "chain", "flows": flows_now, "concurrency": _CONCURRENCY, "keep": True}
            empty = stand.look().dataset
            driver.ask("submit", **work)
            waiting = stand.look().dataset
            driver.ask("run", **work)
            completed = stand.look().dataset
    yield Figure("waiting", (waiting - empty) / flows, "bytes/flow")
    yield Figure("completed and kept", (completed - empty) / flows, "bytes/flow")
    if "held" in stand.contestant.does:
        yield from _running(stand)


def _running(stand: Stand) -> Iterator[Figure]:
    """Each with one stage that is held up while it runs."""
    stand.clear()
    flows = stand.sizes.held
    work = {"shape": "chain", "flows": flows, "concurrency": flows, "keep": True}
    with stand.driver() as driver:
        driver.ask("warm", **{**work, "concurrency": _CONCURRENCY})
        empty = stand.look().dataset
        driver.ask("submit", **work)
        driver.ask("hold", **work)
        running = stand.look().dataset
        driver.ask("release")
    yield Figure("running", (running - empty) / flows, "bytes/flow")
