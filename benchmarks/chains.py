"""Chains of four stages that do nothing: how fast they run, what a stage costs the server and Python, what a flow weighs.

    python -m benchmarks.chains --quick
    python -m benchmarks.chains --beside /path/to/another/checkout

Every round runs all contestants against the same server in turn, and the floor (`floor.py`) with them: on a busy machine
only the ratios of one round mean something. flowq keeps all its promises while it is measured.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import redis

from benchmarks.report import document, table
from benchmarks.server import Counters, counters
from benchmarks.work import STAGES
from tests.servers import running_valkey

ROOT = Path(__file__).resolve().parent.parent
_CONFIG = {
    "no": {},
    "everysec": {"appendonly": "yes", "appendfsync": "everysec"},
    "always": {"appendonly": "yes", "appendfsync": "always"},
}


def main() -> None:
    """Measures and prints."""
    options = parsed_options()
    with contextlib.ExitStack() as stack:
        url = options.url or stack.enter_context(running_valkey(_CONFIG[options.fsync]))
        results = measure(url, options)
    if options.json:
        print(json.dumps(document(results, options), indent=2))
    else:
        print(table(results))
    if options.output:
        Path(options.output).write_text(json.dumps(document(results, options), indent=2) + "\n", "utf-8")


def parsed_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--flows", type=int, default=5_000, help="chains in each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[10, 50, 200])
    parser.add_argument("--alone", type=int, default=300, help="chains run one after the other, for the latency")
    parser.add_argument("--url", help="a server to use instead of one that is started; its other keys are left alone")
    parser.add_argument("--fsync", choices=[*_CONFIG], default="no", help="of the server that is started")
    parser.add_argument("--loop", choices=["uvloop", "asyncio"], default=best_loop())
    parser.add_argument("--beside", action="append", default=[], metavar="CHECKOUT", help="another checkout to run in turn")
    parser.add_argument("--quick", action="store_true", help="one small round: shows that it works, not how fast it is")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--output", metavar="FILE", help="write JSON to a file too")
    options = parser.parse_args()
    if options.quick:
        options.flows, options.rounds, options.concurrency, options.alone = 250, 1, [50], 30
    return options


def best_loop() -> str:
    """uvloop where it is installed."""
    try:
        import uvloop  # noqa: F401
    except ImportError:
        return "asyncio"
    return "uvloop"


def measure(url: str, options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Contestant → figure → its value in each round."""
    contestants = {"flowq": ROOT, **{f"flowq at {path}": Path(path).resolve() for path in options.beside}}
    results: dict[str, dict[str, list[float]]] = {}
    with redis.Redis.from_url(url) as client:
        for turn in range(options.rounds):
            names = [*contestants, "floor"]
            for name in names[turn % len(names) :] + names[: turn % len(names)]:  # nobody is always first
                bench = Bench(client, url, contestants.get(name, ROOT), options)
                found = bench.floor() if name == "floor" else bench.flowq()
                for figure, value in found.items():
                    results.setdefault(name, {}).setdefault(figure, []).append(value)
            print(f"round {turn + 1} of {options.rounds}", file=sys.stderr)
    return results


class Bench:
    """One contestant in one round."""

    def __init__(self, client: redis.Redis, url: str, checkout: Path, options: argparse.Namespace) -> None:
        self._client = client
        self._url = url
        self._checkout = checkout
        self._options = options
        self._namespace = f"bench{secrets.token_hex(4)}"

    def flowq(self) -> dict[str, float]:
        """All figures of flowq."""
        found: dict[str, float] = {}
        for concurrency in self._options.concurrency:
            found |= self._under_load(concurrency)
            self._clean()
        found |= self._alone()
        self._clean()
        return found

    def floor(self) -> dict[str, float]:
        """The floor's."""
        found: dict[str, float] = {}
        for concurrency in self._options.concurrency:
            answer, cost = self._run("floor", self._options.flows, concurrency)
            stages = self._options.flows * STAGES
            found |= {
                f"run {concurrency} flows/s": self._options.flows / answer["seconds"],
                f"run {concurrency} server cpu µs/stage": cost.cpu_us / stages,
                f"run {concurrency} script µs/stage": cost.script_us / stages,
                f"run {concurrency} Python µs/stage": 1e6 * answer["cpu"] / stages,
            }
            self._clean()
        return found

    def _under_load(self, concurrency: int) -> dict[str, float]:
        flows = self._options.flows
        stages = flows * STAGES
        submitted, submit_cost = self._run("submit", flows, concurrency)
        ran, cost = self._run("work", flows, concurrency)
        load = f"run {concurrency}"
        return {
            "submit flows/s": flows / submitted["seconds"],
            "submit server µs/flow": submit_cost.script_us / flows,
            "submit Python µs/flow": 1e6 * submitted["cpu"] / flows,
            "bytes per pending flow": submit_cost.dataset / flows,
            f"{load} flows/s": flows / ran["seconds"],
            f"{load} flows/s with submission": flows / (submitted["seconds"] + ran["seconds"]),
            f"{load} server cpu µs/stage": cost.cpu_us / stages,
            f"{load} script µs/stage": cost.script_us / stages,
            f"{load} Python µs/stage": 1e6 * ran["cpu"] / stages,
            f"{load} round trips/stage": cost.scripts / stages,
            f"{load} server commands/stage": cost.commands / stages,
            "bytes per completed flow": (submit_cost.dataset + cost.dataset) / flows,
        }

    def _alone(self) -> dict[str, float]:
        flows = self._options.alone
        answer, cost = self._run("alone", flows, 10)
        milliseconds = sorted(answer["milliseconds"])
        return {
            "alone p50 ms": statistics.median(milliseconds),
            "alone p99 ms": milliseconds[min(len(milliseconds) - 1, int(0.99 * len(milliseconds)))],
            # One call per flow was its submission.
            "alone round trips/stage": (cost.scripts - flows) / (flows * STAGES),
            "alone script µs/stage": cost.script_us / (flows * STAGES),
        }

    def _run(self, part: str, flows: int, concurrency: int) -> tuple[dict[str, Any], Counters]:
        """Runs a part in a process of its own; what it said, and what it cost the server."""
        words = [part, self._url, self._namespace, str(flows), str(concurrency), self._options.loop]
        with self._started(words) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit(f"`{part}` did not start")
            before = counters(self._client)
            process.stdin.write("go\n")
            process.stdin.flush()
            line = process.stdout.readline()
            cost = counters(self._client).since(before)
            if line == "done\n":
                process.stdin.write("go\n")
                process.stdin.flush()
                line = process.stdout.readline()
            return json.loads(line), cost

    @contextlib.contextmanager
    def _started(self, words: list[str]) -> Iterator[subprocess.Popen[str]]:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(self._checkout), str(ROOT)))}
        with tempfile.TemporaryDirectory() as directory:  # not the checkout: it would come first on the path
            process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.parts", *words],
                cwd=directory, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )  # fmt: skip
            try:
                yield process
                process.wait(10)
            finally:
                process.kill()
                process.wait()

    def _clean(self) -> None:
        """Removes what this contestant wrote, so that the next one finds the server as it did."""
        keys = list(self._client.scan_iter(match=f"{{{self._namespace}[:}}]*", count=10_000))
        for start in range(0, len(keys), 1_000):
            self._client.delete(*keys[start : start + 1_000])


if __name__ == "__main__":
    main()
