"""How fast flows are added and run, and what a stage costs on both sides. Submitter and worker are processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.conversation import DriverFailed
from benchmarks.figures import Figure
from benchmarks.server import Counters
from benchmarks.stand import Stand

_STAGES = {"single": 1, "chain": 4, "diamond": 4}


def singles(stand: Stand) -> Iterator[Figure]:
    """Flows of one stage."""
    return _rates(stand, "single", stand.share(stand.sizes.singles))


def chains(stand: Stand) -> Iterator[Figure]:
    """Chains of four."""
    return _rates(stand, "chain", stand.share(stand.sizes.chains))


def diamonds(stand: Stand) -> Iterator[Figure]:
    """Diamonds of four."""
    return _rates(stand, "diamond", stand.share(stand.sizes.diamonds))


def _rates(stand: Stand, shape: str, flows: int) -> Iterator[Figure]:
    stages = flows * _STAGES[shape]
    added: list[float] = []
    run: dict[int, float] = {}
    for concurrency in stand.sizes.concurrency:
        stand.clear()
        work = {"shape": shape, "flows": flows, "concurrency": concurrency}
        submitted, _ = measured(stand, "submit", **work)
        ran, cost = measured(stand, "run", **work)
        if (ran["ran"], ran["ended"]) != (stages, flows):
            raise DriverFailed(f"{ran['ran']} stages of {ran['ended']} flows ran, not {stages} of {flows}")
        added.append(submitted["seconds"])
        run[concurrency] = ran["seconds"]
        yield Figure(f"run, {concurrency} at once", stages / ran["seconds"], "stages/s", True)
        if concurrency == stand.sizes.concurrency[len(stand.sizes.concurrency) // 2]:
            yield from _costs(ran, cost, stages, f"{concurrency} at once")
            yield Figure("slowest command", stand.slowest_ms(), "ms")
    yield Figure("run, at its best", stages / min(run.values()), "stages/s", True)
    yield Figure("submit", flows / min(added), "flows/s", True)
    yield Figure("submit and run", flows / min(map(sum, zip(added, run.values(), strict=True))), "flows/s", True)


def measured(stand: Stand, do: str, **work: Any) -> tuple[dict[str, Any], Counters]:
    """What a warmed-up driver said of it, and what it cost the server."""
    with stand.driver() as driver:
        driver.ask("warm", shape=work["shape"], runs=do == "run")
        before = stand.look()
        return driver.ask(do, **work), stand.look().since(before)


def _costs(ran: dict[str, Any], cost: Counters, stages: int, load: str) -> Iterator[Figure]:
    yield Figure(f"server's processor time, {load}", cost.cpu_us / stages, "µs/stage")
    yield Figure(f"worker's processor time, {load}", 1e6 * ran["cpu"] / stages, "µs/stage")
    yield Figure(f"round trips, {load}", cost.reads / stages, "per stage")
    yield Figure(f"server commands, {load}", cost.commands / stages, "per stage")
    yield Figure(f"worker's peak memory, {load}", ran["rss"] / 1e6, "MB")
