"""The built-in sample that `flowq dev` serves when it is given no module: a few seconds of work with everything in it.

Progress, two branches, a retry after a failure, an artifact. Read it as an example: it uses only the public names.
"""

from __future__ import annotations

import asyncio

from flowq import Artifact, Backoff, context, pipeline, stage


@stage(attempts=3)
async def collect(count: int) -> list[int]:
    """Collects numbers, one every 100 ms, and tells how far it is."""
    numbers: list[int] = []
    for position in range(count):
        await asyncio.sleep(0.1)
        numbers.append(position * position)
        context().progress((position + 1) / count, f"{position + 1} of {count}")
    return numbers


@stage
async def add_up(numbers: list[int]) -> int:
    """The sum, after a moment of thought."""
    await asyncio.sleep(0.5)
    return sum(numbers)


@stage(attempts=3, backoff=Backoff.fixed("1s"))
async def average(numbers: list[int]) -> float:
    """The mean. Fails on its first attempt, to show what a retry looks like."""
    if context().attempt == 1:
        raise ConnectionError("the first attempt always fails here, on purpose")
    return sum(numbers) / len(numbers)


@stage
async def report(total: int, mean: float) -> Artifact:
    """Writes what was found to an artifact."""
    async with context().new_artifact("report.txt") as sink:
        await sink.write(f"total {total}, average {mean:.2f}\n".encode())
    return sink.artifact


@pipeline
def tour(count: int = 20) -> Artifact:
    """Collects numbers, adds them up and averages them side by side, and writes a report."""
    numbers = collect(count)
    return report(add_up(numbers), average(numbers))
