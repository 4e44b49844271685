"""A driver's side of the conversation: one JSON object a line, an order comes in, an answer goes out. Standard library only.

A driver is a small program in a peer's own environment: it gives `talk` an object that can do what `Driver` says, and never
measures by itself. All that is counted and timed is counted and timed here, in the same way for every peer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Protocol

STAGES = 4
KEY = "s3://media/flows/0000000000000000/source/1-00000000/video.mp4"

_WARM_FLOWS = 100
_ALONE_WARM_FLOWS = 20
_KIB = 1 if sys.platform == "darwin" else 1024


@dataclass(frozen=True)
class Work:
    """What is to be added or run.

    Attributes:
        shape: single, chain, diamond, or fan.
        flows: how many.
        width: of a fan, how many run between the first and the last.
        concurrency: how many stages at once.
        keep: whether what has completed stays on the server; if not, a peer may drop it, which is cheaper.
    """

    shape: str = "chain"
    flows: int = 1
    width: int = 0
    concurrency: int = 50
    keep: bool = False


class Tally:
    """Counts the stages that really ran. Stages call it, in whatever thread they run."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self.expect(0)

    def expect(self, flows: int) -> None:
        """Begins again: it is all over when so many flows have ended."""
        self.began = self.ran = self.ended = 0
        self._flows = flows
        self.earlier_at = self.released_at = 0.0
        self.gate: asyncio.Event | None = None
        self._changed = asyncio.Event()
        with contextlib.suppress(RuntimeError):
            self._loop = asyncio.get_running_loop()

    def stage(self, *, is_last: bool) -> None:
        """A stage does its work, which is to be counted."""
        if is_last:
            self.released_at = time.perf_counter()
            self.ended += 1
        else:
            self.earlier_at = time.perf_counter()
        self.ran += 1
        if self.ended >= self._flows and self._loop:
            self._loop.call_soon_threadsafe(self._changed.set)

    async def held_stage(self, *, is_last: bool) -> None:
        """The same for a stage that can be held up while it runs."""
        if self.gate:
            self.began += 1
            if self.began >= self._flows:
                self._changed.set()
            await self.gate.wait()
        self.stage(is_last=is_last)

    async def all_ended(self) -> None:
        """Waits until so many flows have ended."""
        while self.ended < self._flows:
            await self._changed.wait()
            self._changed.clear()

    async def all_began(self) -> None:
        """Waits until each flow has a stage that is held up."""
        while self.began < self._flows:
            await self._changed.wait()
            self._changed.clear()


tally = Tally()


class Driver(Protocol):
    """What a peer's driver can do."""

    async def submit(self, work: Work) -> None:
        """Adds flows in bulk, as the peer recommends."""

    def worker(self, work: Work) -> AbstractAsyncContextManager[object]:
        """A worker that runs inside the block."""

    async def one(self) -> None:
        """Adds one chain, and waits until whoever added it knows that it has ended."""

    async def claims(self, samples: int) -> list[float]:
        """Claims so often one stage, each just added behind all that waits; milliseconds of each claim."""


def talk(make: Callable[[str, str], Driver], packages: tuple[str, ...] = ()) -> None:
    """The driver's main: `python DRIVER URL NAMESPACE`, then orders from stdin until it is closed."""
    with asyncio.Runner(loop_factory=_best_loop()) as runner:
        runner.run(_talk(make, packages))


def _best_loop() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop  # type: ignore[import-not-found]
    except ImportError:
        return None
    return uvloop.new_event_loop


async def _talk(make: Callable[[str, str], Driver], packages: tuple[str, ...]) -> None:
    url, namespace = sys.argv[1:3]
    session = _Session(make, url, namespace)
    _say({"versions": {name: _version(name) for name in packages}})
    while line := await asyncio.to_thread(sys.stdin.readline):
        order: dict[str, Any] = json.loads(line)
        _say(await session.orders[order.pop("do")](**order))
    await session.close()


def _say(answer: Mapping[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""


class _Session:
    """Carries orders out."""

    def __init__(self, make: Callable[[str, str], Driver], url: str, namespace: str) -> None:
        self._make, self._url, self._namespace = make, url, namespace
        self._driver = make(url, namespace)
        self._open = contextlib.AsyncExitStack()
        self.orders: dict[str, Callable[..., Awaitable[dict[str, Any]]]] = {
            "warm": self._warm, "submit": self._submit, "run": self._run, "hold": self._hold, "idle": self._idle,
            "release": self._release, "alone": self._alone, "claims": self._claims,
        }  # fmt: skip

    async def close(self) -> None:
        await self._open.aclose()

    async def _warm(self, runs: bool = True, **words: Any) -> dict[str, Any]:
        """Adds a few beside all that is measured, and runs them, so that nobody pays for what is done once."""
        work = Work(**{**words, "flows": _WARM_FLOWS, "width": 10})
        driver = self._make(self._url, f"{self._namespace}w{os.getpid()}")
        tally.expect(work.flows)
        await driver.submit(work)
        if runs:
            async with driver.worker(work):
                await tally.all_ended()
        return {}

    async def _submit(self, **words: Any) -> dict[str, Any]:
        began, cpu = time.perf_counter(), time.process_time()
        await self._driver.submit(Work(**words))
        return {"seconds": time.perf_counter() - began, "cpu": time.process_time() - cpu}

    async def _run(self, **words: Any) -> dict[str, Any]:
        """From the start of the worker to the end of the last flow; of flowq to the goodbye of its worker."""
        work = Work(**words)
        tally.expect(work.flows)
        began, cpu = time.perf_counter(), time.process_time()
        async with self._driver.worker(work):
            await tally.all_ended()
            seconds, used = time.perf_counter() - began, time.process_time() - cpu
        if getattr(self._driver, "ends_with_goodbye", False):
            seconds, used = time.perf_counter() - began, time.process_time() - cpu
        return {
            "seconds": seconds, "cpu": used, "ran": tally.ran, "ended": tally.ended, "rss": _peak_rss(),
            "release_ms": 1000 * (tally.released_at - tally.earlier_at), **(await self._told(work)),
        }  # fmt: skip

    async def _told(self, work: Work) -> dict[str, Any]:
        """What only the engine itself can tell of a run."""
        tell = getattr(self._driver, "told_of_run", None)
        return {} if tell is None else await tell(work)

    async def _hold(self, **words: Any) -> dict[str, Any]:
        """A worker that has begun a stage of each flow, and finishes none before `release`."""
        work = Work(**words)
        tally.expect(work.flows)
        tally.gate = asyncio.Event()
        await self._open.enter_async_context(self._driver.worker(work))
        await tally.all_began()
        return {}

    async def _idle(self, **words: Any) -> dict[str, Any]:
        """A worker that has nothing to do, until `release`."""
        await self._open.enter_async_context(self._driver.worker(Work(**words)))
        return {"rss": _peak_rss()}

    async def _release(self) -> dict[str, Any]:
        if tally.gate:
            tally.gate.set()
            await tally.all_ended()
            tally.gate = None
        await self._open.aclose()
        return {}

    async def _alone(self, runs: int, **words: Any) -> dict[str, Any]:
        """One chain after the other on an otherwise idle worker in this process."""
        milliseconds: list[float] = []
        tally.expect(1 << 60)
        async with self._driver.worker(Work(**words)):
            for _ in range(_ALONE_WARM_FLOWS):
                await self._driver.one()
            for _ in range(runs):
                began = time.perf_counter()
                await self._driver.one()
                milliseconds.append(1000 * (time.perf_counter() - began))
        return {"milliseconds": milliseconds}

    async def _claims(self, samples: int) -> dict[str, Any]:
        return {"milliseconds": await self._driver.claims(samples)}


def _peak_rss() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _KIB
