"""Limits: worker processes share 100 requests and 2,000 tokens a period; how much is used, and how much falls in any one window.

    python -m benchmarks.limits                 # a period of 6 s, three of them
    python -m benchmarks.limits --period 60

Times are those of the processes that used what they were allowed, so a late wake-up shows; in short periods it shows more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from flowq import FlowProducer, Worker, limit, stage
from tests.servers import running_valkey

ROOT = Path(__file__).resolve().parent.parent
REQUESTS, TOKENS, WORKERS, PERIODS = 100, 2_000, 4, 3


@stage
async def ask_model(tokens: int) -> tuple[float, int]:
    """Says when it was let through, and how much it took."""
    async with limit("model", tokens=tokens):
        return time.time(), tokens


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--period", type=float, default=6.0, help="seconds")
    parser.add_argument("--work", metavar="URL", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        asyncio.run(Worker(options.work, stages=[ask_model], concurrency=20).run())
        return
    with running_valkey() as url, _workers(url):
        asyncio.run(_measure(url, options.period))


@contextlib.contextmanager
def _workers(url: str) -> Iterator[None]:
    command = [sys.executable, "-m", "benchmarks.limits", "--work", url]
    processes = [subprocess.Popen(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) for _ in range(WORKERS)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


async def _measure(url: str, period: float) -> None:
    rates = {"requests": f"{REQUESTS}/{period:g}s", "tokens": f"{TOKENS}/{period:g}s"}
    async with FlowProducer(url) as producer:
        await producer.set_limit("model", rate=rates)
        flows = await producer.add_bulk(ask_model.flow(5 + 7 * number % 31) for number in range(PERIODS * REQUESTS + 50))
        uses = sorted([await flow.result(100 * period) for flow in flows])
    within = [(at, tokens) for at, tokens in uses if at < uses[0][0] + PERIODS * period]
    tokens, requests = sum(amount for _, amount in within), len(within)
    print(f"{WORKERS} workers, {PERIODS} periods of {period:g} s: {requests} requests, {tokens:,} tokens")
    print(f"used: {requests / (PERIODS * REQUESTS):.1%} of the requests, {tokens / (PERIODS * TOKENS):.1%} of the tokens")
    print(f"most in any {period:g} s: {_most(uses, period, 0)} requests, {_most(uses, period, 1):,} tokens")


def _most(uses: Sequence[tuple[float, int]], period: float, of: int) -> int:
    """The largest sum over any window, by the clocks of the workers."""
    return max(sum((1, amount)[of] for at, amount in uses if end - period < at <= end) for end, _ in uses)


if __name__ == "__main__":
    main()
