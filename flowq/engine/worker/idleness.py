"""When a worker has nothing to do: nothing has run in it for a while, and nothing waits for it or soon will."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Iterable
from typing import NamedTuple

from flowq.store.due_soon import is_due_soon
from flowq.store.store import Store
from flowq.store.views import Views

# How often it is looked, so that what a worker without work asks the server for stays small.
_LOOKS_PER_TIMEOUT, _LOOK_SECONDS_MIN, _LOOK_SECONDS_MAX = 4, 0.5, 5.0


class AtRest(NamedTuple):
    """A worker in which nothing runs now.

    Attributes:
        routes: what it would run, suspects too.
        begun: how many stages each of its processes has begun.
    """

    routes: frozenset[str]
    begun: tuple[int, ...]

    @classmethod
    def of(cls, routes: Iterable[str], begun: Iterable[int]) -> AtRest:
        """One that serves these routes."""
        return cls(frozenset(name for route in routes for name in (route, route + "!")), tuple(begun))


class Idleness:
    """Stops a worker that has been idle for long enough.

    Idle is who runs nothing and has run nothing, where no stage is ready that it serves, and none becomes so within the time:
    of a retry, a sleep or a flow that begins later. What is due later keeps nobody; it counts as waiting when its time has come.

    Args:
        store: where stages wait.
        timeout_ms: for how long it may be idle.
        at_rest: the worker; None: something runs, or it has only begun and does not know what waits for it.
        stop: stops it.
        clock: gives seconds.
    """

    def __init__(
        self,
        store: Store,
        timeout_ms: int,
        at_rest: Callable[[], AtRest | None],
        stop: Callable[[], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._timeout_ms = timeout_ms
        self._at_rest = at_rest
        self._stop = stop
        self._clock = clock
        self._idle: tuple[float, tuple[int, ...]] | None = None

    @property
    def look_seconds(self) -> float:
        """How often to look."""
        return min(max(self._timeout_ms / 1000 / _LOOKS_PER_TIMEOUT, _LOOK_SECONDS_MIN), _LOOK_SECONDS_MAX)

    async def run_once(self) -> None:
        """One look."""
        # Forgotten first: while the server is out of reach nobody knows whether anything waits.
        idle, self._idle = self._idle, None
        resting = self._at_rest()
        if resting is None or await self._is_wanted(resting.routes) or self._at_rest() != resting:
            return
        if idle is None or idle[1] != resting.begun:  # what was begun since has ended already
            idle = self._clock(), resting.begun
        self._idle = idle
        if self._clock() - idle[0] >= self._timeout_ms / 1000:
            self._stop()

    async def _is_wanted(self, routes: Collection[str]) -> bool:
        return bool(await Views(self._store).waiting(routes)) or await is_due_soon(self._store, routes, self._timeout_ms)


class Burst:
    """Stops a worker when there is nothing left to do, also nothing that waits for a time.

    Args:
        is_done: whether that is so.
        stop: stops it.
    """

    def __init__(self, is_done: Callable[[], Awaitable[bool]], stop: Callable[[], object]) -> None:
        self._is_done = is_done
        self._stop = stop
        self._was_done = False

    async def run_once(self) -> None:
        """One look; the second in a row that finds nothing ends it."""
        was_done, self._was_done = self._was_done, False
        self._was_done = await self._is_done()
        if was_done and self._was_done:
            self._stop()
