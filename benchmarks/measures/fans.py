"""One stage, many beside each other, one that takes all their results: from the submission to the end, and the join alone."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.conversation import DriverFailed
from benchmarks.figures import Figure
from benchmarks.measures.rates import measured
from benchmarks.stand import Stand

_CONCURRENCY = 200


def fan(stand: Stand) -> Iterator[Figure]:
    """A fan that every engine with joins is asked for."""
    return _fan(stand, stand.share(stand.sizes.width))


def wide_fan(stand: Stand) -> Iterator[Figure]:
    """Ten times as wide."""
    return _fan(stand, stand.sizes.great_width)


def _fan(stand: Stand, width: int) -> Iterator[Figure]:
    stand.clear()
    work = {"shape": "fan", "flows": 1, "width": width, "concurrency": _CONCURRENCY}
    submitted, _ = measured(stand, "submit", **work)
    ran, _ = measured(stand, "run", **work)
    if ran["ran"] not in (width + 1, width + 2):  # with or without a first stage
        raise DriverFailed(f"{ran['ran']} stages ran, not {width} and those around them")
    seconds = submitted["seconds"] + ran["seconds"]
    yield Figure("submit and run", ran["ran"] / seconds, "stages/s", True)
    if stand.contestant.share == 1:  # that of a narrower one can't stand beside it
        yield Figure("whole fan", seconds, "s")
    yield Figure("last child ended → parent begins", ran["release_ms"], "ms")
    if "claimed_ms" in ran:
        yield Figure("last child committed → parent claimed", ran["claimed_ms"], "ms")
    yield Figure("slowest command", stand.slowest_ms(), "ms")
