"""Where the time of a stage goes: chains of four, one worker; on the server by command, in Python by part.

    python -m benchmarks.profiling                      # this checkout
    python -m benchmarks.profiling --beside CHECKOUT    # and another one, in turn

The server tells how long its commands took, those that scripts call, too; what is left of a script is Lua, with the values
that go in and out. Python is sampled by py-spy: a sample belongs to the part whose code, or a library called by it, was running,
and wherever the collector of garbage struck, to that.
"""

from __future__ import annotations

import argparse
import contextlib
import signal
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.contestants import FLOWQ, PROFILER, Contestant
from benchmarks.drivers.line import STAGES
from benchmarks.install import CACHE, missing
from benchmarks.rounds import rotated
from benchmarks.server import BUSY, SCRIPTS, busy_us
from benchmarks.stand import Server, Sizes, Stand, running_servers, stand_for

# To be looked at stops the worker for some milliseconds, which shares do not show: the times are those of another run.
_SAMPLES_A_SECOND = 100
_COMMANDS_SHOWN = 6
_SECONDS_MAX = 60.0

# The innermost frame that is in one of these has the sample; what is in none of them is the event loop.
_PARTS = {
    "flowq_driver.py": "the stages' own functions",
    "flowq/engine/run/": "a run: its arguments, its call, its result",
    "flowq/engine/": "the conversation: reporting, claiming, beginning",
    "flowq/store/": "packing calls, sending them, reading answers",
}
_LOOP = "the event loop"
_GARBAGE = "the collector of garbage"
_IMPORTING = "_find_and_load"
_WAITING = "epoll_"


def main() -> int:
    """Measures in interleaved rounds and prints medians, with the least and the most."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--flows", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--concurrency", type=int, default=50)
    parser.add_argument("--beside", metavar="CHECKOUT", type=Path, help="another checkout of flowq, in turn")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the profiler is installed")
    options = parser.parse_args()
    cache = options.cache.resolve()
    if why := missing(PROFILER, cache, may_install=True):
        print(f"{PROFILER.name}: {why}", file=sys.stderr)
        return 1
    sides = [FLOWQ]
    if options.beside:
        sides.append(FLOWQ._replace(name=str(options.beside), checkout=options.beside.resolve()))
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    with running_servers({"none"}) as servers:
        for turn in range(options.rounds):
            for side in rotated(sides, turn):
                for where, what, us in _profile(side, servers["none"], cache, options):
                    found.setdefault((where, what), {}).setdefault(side.name, []).append(us)
    _show(found, [side.name for side in sides])
    return 0


def _profile(side: Contestant, server: Server, cache: Path, options: argparse.Namespace) -> Iterator[tuple[str, str, float]]:
    """Where, what, and its microseconds a stage: those of a run that nobody watched, in the shares of one that was sampled."""
    stand, stages = stand_for(side, server, Sizes(), cache), options.flows * STAGES
    stand.clear()
    work = {"shape": "chain", "flows": options.flows, "concurrency": options.concurrency}
    ran, spent = _ran(stand, work)
    for what, us in spent.items():
        yield "server", what, us / stages
    samples = Counter(part for stack, count in _sampled(stand, work) if (part := part_of(stack)) for _ in range(count))
    us = 1e6 * ran["cpu"] / stages
    yield "Python", "in all", us
    for part in (*dict.fromkeys(_PARTS.values()), _LOOP, _GARBAGE):
        yield "Python", part, us * samples[part] / samples.total()


def _ran(stand: Stand, work: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, float]]:
    """What the driver said of a run, and on what the server spent how many microseconds meanwhile."""
    with stand.driver() as driver:
        driver.ask("submit", **work)
        driver.ask("warm", shape=work["shape"], runs=True)
        before = busy_us(stand.server.client)
        ran = driver.ask("run", **work)
        after = busy_us(stand.server.client)
    return ran, _spent({what: us - before.get(what, 0.0) for what, us in after.items()})


def _sampled(stand: Stand, work: Mapping[str, Any]) -> list[tuple[str, int]]:
    """Stacks of a run, with how often each was seen."""
    with tempfile.TemporaryDirectory() as directory, stand.driver() as driver:
        raw = Path(directory) / "stacks"
        driver.ask("submit", **work)
        driver.ask("warm", shape=work["shape"], runs=True)
        with _sampling(driver.pid, raw, stand.cache):
            driver.ask("run", **work)
        lines = [line.rpartition(" ") for line in raw.read_text("utf-8").splitlines()]
    return [(stack, int(count)) for stack, _, count in lines]


@contextlib.contextmanager
def _sampling(pid: int, raw: Path, cache: Path) -> Iterator[None]:
    program = PROFILER.home(cache) / "bin" / "py-spy"
    words = ["--native", "--rate", str(_SAMPLES_A_SECOND), "--format", "raw", "--output", str(raw), "--pid", str(pid)]
    with subprocess.Popen([program, "record", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as sampling:
        yield
        sampling.send_signal(signal.SIGINT)
        _, said = sampling.communicate(timeout=_SECONDS_MAX)
    if sampling.returncode or not raw.exists():
        raise SystemExit(f"py-spy could not watch the worker, which it may where root may: {said.strip()}")


def _spent(us: Mapping[str, float]) -> dict[str, float]:
    """Microseconds by what they were spent on: the commands that took most, and what is left."""
    commands = Counter({what: taken for what, taken in us.items() if what not in (BUSY, SCRIPTS)})
    shown = {f"`{name.upper()}`": taken for name, taken in commands.most_common(_COMMANDS_SHOWN)}
    return {
        "in all": us[BUSY],
        "Lua, and the values that go in and out": us[SCRIPTS] - commands.total(),
        **shown,
        "other commands": commands.total() - sum(shown.values()),
        "reading and answering requests": us[BUSY] - us[SCRIPTS],
    }


def part_of(stack: str) -> str:
    """The part that a sample belongs to; empty: it was taken while modules were imported, or nothing was done.

    Args:
        stack: `function (file:line);function (file:line)`, the innermost last.
    """
    if _IMPORTING in stack:
        return ""
    for frame in reversed(stack.split(";")):
        if frame.startswith(_WAITING):
            return ""
        if frame.startswith("gc_collect"):
            return _GARBAGE
        for path, part in _PARTS.items():
            if path in frame:
                return part
    return _LOOP


def _show(found: Mapping[tuple[str, str], Mapping[str, Sequence[float]]], sides: Sequence[str]) -> None:
    print(f"| µs a stage | | {' | '.join(sides)} |\n|---|---|{'---|' * len(sides)}")
    for (where, what), by_side in found.items():
        cells = [_between(by_side[side]) if side in by_side else "" for side in sides]
        print(f"| {where} | {what} | {' | '.join(cells)} |")


def _between(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.1f} ({min(values):.1f}–{max(values):.1f})"


if __name__ == "__main__":
    sys.exit(main())
