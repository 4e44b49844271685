"""The server's own counters: what a run cost it, as the difference of two looks."""

from __future__ import annotations

from typing import Any, NamedTuple

import redis

# Asked by the benchmark, or once by each client that connects: not the price of a stage.
_NOT_COUNTED = {"info", "config|get", "client|setname", "client|setinfo", "script|load", "function|load", "hello", "ping"}

# As `busy_us` calls what is no command.
BUSY, SCRIPTS = "<busy>", "<scripts>"

_SCRIPTS = ("evalsha", "eval", "fcall")


class Counters(NamedTuple):
    """A look at the server.

    Attributes:
        script_us: microseconds spent in scripts.
        cpu_us: processor time of the server's main thread.
        scripts: script calls: the round trips of a worker.
        commands: commands, those that scripts call too.
        reads: how often it read from clients: round trips, whatever the client; one of them is the look.
        dataset: bytes of data.
    """

    script_us: float
    cpu_us: float
    scripts: int
    commands: int
    reads: int
    dataset: int

    def since(self, earlier: Counters) -> Counters:
        """The difference."""
        return Counters._make(now - then for now, then in zip(self, earlier, strict=True))


def busy_us(client: redis.Redis) -> dict[str, float]:
    """Microseconds by the clock: of each command, those that scripts call included; of scripts (SCRIPTS); of all (BUSY)."""
    told: dict[str, Any] = client.info("commandstats", "stats")
    taken = {name.removeprefix("cmdstat_"): found["usec"] for name, found in told.items() if name.startswith("cmdstat_")}
    commands = {name: us for name, us in taken.items() if name not in (*_NOT_COUNTED, *_SCRIPTS)}
    return {**commands, SCRIPTS: sum(taken.get(name, 0) for name in _SCRIPTS), BUSY: told["eventloop_duration_sum"]}


def counters(client: redis.Redis) -> Counters:
    """Looks at the server, with one request."""
    told: dict[str, Any] = client.info("commandstats", "cpu", "memory", "stats")
    statistics = {name.removeprefix("cmdstat_"): found for name, found in told.items() if name.startswith("cmdstat_")}
    called = [statistics[name] for name in _SCRIPTS if name in statistics]
    return Counters(
        script_us=sum(found["usec"] for found in called),
        cpu_us=1e6 * (told["used_cpu_user_main_thread"] + told["used_cpu_sys_main_thread"]),
        scripts=sum(found["calls"] for found in called),
        commands=sum(found["calls"] for name, found in statistics.items() if name not in (*_NOT_COUNTED, *_SCRIPTS)),
        reads=told["total_reads_processed"],
        dataset=told["used_memory_dataset"],
    )
