"""What the stages of these tests share with the tests: what ran, what is to fail, and a gate. Fresh for each test."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from flowq import Unrecoverable
from tests.engine.work import Gate

# How often what ran, under whatever name the stage gave.
ran: Counter[str] = Counter()
# What ran, in its order, where that counts.
order: list[Any] = []
# What fails now, under whatever name the stage looks for.
broken: set[str | int] = set()
# How much of what is used now, and how much was at most.
now: Counter[str] = Counter()
most: Counter[str] = Counter()
gate = Gate()


def set_scene() -> None:
    """Nothing has run, nothing is broken, and the gate is closed."""
    ran.clear()
    order.clear()
    broken.clear()
    now.clear()
    most.clear()
    gate.close()


def work(name: str) -> str:
    """Notes that it ran; fails if the test wants that."""
    order.append(name)
    if name in broken:
        raise Unrecoverable(f"{name} is broken")
    return name


@contextlib.contextmanager
def using(**amounts: int) -> Iterator[None]:
    """Notes what is used meanwhile."""
    for name, amount in amounts.items():
        now[name] += amount
        most[name] = max(most[name], now[name])
    try:
        yield
    finally:
        now.subtract(amounts)


async def busy(**amounts: int) -> None:
    """Uses it while others have their turns."""
    with using(**amounts):
        for _ in range(3):
            await asyncio.sleep(0)
